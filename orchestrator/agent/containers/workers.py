"""The workers of one generation as containers, one for each rank, as the agent holds them.

What the agent calls never waits: a thread of its own speaks with the engine, and does what was asked at its next look.
The engine may be away for a while. Containers that live on meanwhile are followed on when it is back; those that ended
with it are lost, like an instance.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.agent.background import Background, in_pieces
from orchestrator.agent.containers.following import Follower
from orchestrator.agent.containers.image import Image, ImageNotHad, ImageRefused, find_image, pull_image
from orchestrator.agent.containers.ranks import Crew, folders_of, user_of_ranks
from orchestrator.agent.equipment import Run
from orchestrator.agent.exits import ENDED_BY_US, common_code, failure_of_ranks, well_ended
from orchestrator.agent.launcher import RUN_MARKER, TRAINER, Program, kill_marked
from orchestrator.agent.run_directory import BAD_INPUT, DRAINED, FINISHED, LocalFile, RunDirectory
from orchestrator.fleets.engine import (
    NETWORK_LABEL,
    RUN_LABEL,
    WORK_DIR_LABEL,
    EngineError,
    connect,
    is_absence,
    remove_containers,
    remove_network,
    unreachable,
)
from orchestrator.jobs.instances import Assignment, TrainerExit
from orchestrator.spec.units import format_size

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.errors import APIError

T = TypeVar("T")

LOOK_EVERY_S = 1.0
"""How ranks are; what the engine tells by itself, and what is asked for, is looked at at once."""
AGAIN_AFTER_S = 0.5
PULL_PAUSES_S = (2.0, 5.0, 15.0, 30.0)
"""Between tries to pull an image whose registry does not answer."""
TOGETHER_WITHIN_S = 2.0
"""When one rank has failed the others see it by themselves, as a rule; those that have not by then are ended."""
DRAIN_TOGETHER_WITHIN_S = 30.0
"""The same after one that has drained: the others are asked to."""
LAST_LINES_WITHIN_S = 5.0
KILL_AGAIN_AFTER_S = 2.0
_UNKNOWN_EXIT = 255
"""What the engine says of a container that ended while it was away."""


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds."""

    first_answer_s: float = 60.0
    """For an engine that has never answered."""
    away_s: float = 120.0
    """For one that has."""
    pull_s: float = 300.0
    """While a pull comes no further."""
    network_s: float = 300.0
    """Until the first node has made the network."""
    clear_s: float = 600.0
    """For an engine that is away when all is to be removed; the guard, and who comes later, tries on."""


@dataclass(frozen=True)
class Home:
    """Whose the containers are."""

    work_dir: Path
    instance: str
    agent: str
    """Names the agent's process: one that comes after it is another."""


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended."""

    code: int
    at: str
    """When, in the engine's words; they sort."""
    why: str = ""
    """What the exit code does not say."""
    with_engine: bool = False


@dataclass
class Rank:
    """A rank's container, as it was last seen."""

    local: int
    container_id: str
    followers: list[Follower] = field(default_factory=list)
    pid: int | None = None
    end: RankEnd | None = None
    asked: int = 0
    """In how many rounds it was asked to drain."""
    ended_by_us: bool = False


@dataclass(frozen=True)
class _Order:
    run: RunDirectory
    assignment: Assignment
    own_address: str
    gpus: tuple[int, ...]


class _Over(Exception):
    """Nothing more can be done for the ranks: this is how they ended."""

    def __init__(self, ended: TrainerExit) -> None:
        super().__init__(ended.message)
        self.ended = ended


class _Killed(Exception):
    """They are to be ended."""


class ContainerWorkers:
    """The ranks of one generation in containers. Made while there is no work: its image is pulled. Started once."""

    def __init__(
        self,
        image: str,
        log: Path,
        home: Home,
        environ: Mapping[str, str],
        background: Background,
        program: Program = TRAINER,
        patience: Patience | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log_path = log
        self._image_name = image
        self._home = home
        self._environ = environ
        self._program = program
        self._patience = patience or Patience()
        self._monotonic = monotonic
        self._client: DockerClient | None = None
        self._answered = False
        self._away_since: float | None = None
        self._was_away = False
        self._image: Image | None = None
        self._doing = ""
        self._moved_at = monotonic()
        self._order: _Order | None = None
        self._crew: Crew | None = None
        self._ranks: list[Rank] = []
        self._incomplete = False
        self._first_end_at: float | None = None
        self._ends_well = False
        self._rounds = 0
        self._stacks_wanted = False
        self._killed_at: float | None = None
        self._cleared = False
        self._exit: TrainerExit | None = None
        self._log = open(log, "a", buffering=1)  # noqa: SIM115 - it is written as long as the workers are there
        self._task = background.start(in_pieces(self._pieces()), "containers")

    # --- what the agent asks -----------------------------------------------------------------------------------------

    @property
    def warm(self) -> bool:
        """Whether the image is there; also true when it will not be, for starting tells why."""
        return self._image is not None or self._exit is not None or self._task.done or self._sticks

    @property
    def pids(self) -> tuple[int, ...]:
        """The first process of each rank, as this machine numbers it."""
        return tuple(rank.pid for rank in self._ranks if rank.pid and rank.end is None)

    @property
    def activity(self) -> str:
        """What takes long before the ranks can begin."""
        return self._doing

    @property
    def image(self) -> str:
        """The image by its digest, once it is there."""
        return "" if self._image is None else self._image.digest

    @property
    def log(self) -> LocalFile:
        """What was done with the engine."""
        return LocalFile(self.log_path)

    def start(self, run: Run, assignment: Assignment, *, own_address: str, gpus: tuple[int, ...]) -> None:
        """Begin to train."""
        self._order = _Order(RunDirectory(run.path), assignment, own_address, gpus)
        self._task.wake()

    def ask_to_drain(self, *, again: bool = False) -> None:
        """SIGTERM to every rank, also to those that are not there yet; with `again` once more."""
        if again or not self._rounds:
            self._rounds += 1
            self._task.wake()

    def dump_stacks(self) -> None:
        """SIGUSR1 to the ranks: they print the stacks of their threads."""
        self._stacks_wanted = True
        self._task.wake()

    def kill(self) -> None:
        """Remove whatever there is of them."""
        if self._killed_at is None:
            self._killed_at = self._monotonic()
            self._task.wake()

    def gone(self) -> bool:
        """After `kill`: whether nothing is left. While the engine is away its processes are killed without it."""
        if self._order is None or self._cleared:
            return True
        killed_at = self._killed_at if self._killed_at is not None else self._monotonic()
        late = self._monotonic() - killed_at > KILL_AGAIN_AFTER_S
        if self._away_since is None and not late and not self._task.done:
            return False
        return not kill_marked(str(self._order.run.path), RUN_MARKER) and (
            self._away_since is not None or self._task.done
        )

    def poll(self, step: int | None) -> TrainerExit | None:
        """How they ended, or None while they run."""
        ended = self._exit
        if ended is None and self._task.done:
            message = "what speaks with the Docker engine has ended by a fault of its own: see agent.log"
            ended = TrainerExit(outcome="failed", code=1, message=message)
        elif ended is None and self._sticks:
            message = f"{self._doing}: nothing has come for {self._patience.pull_s:.0f} s; see how the Docker engine is"
            ended = TrainerExit(outcome="failed", code=1, message=message)
        return None if ended is None else ended.model_copy(update={"step": step})

    @property
    def _sticks(self) -> bool:
        return self._image is None and self._monotonic() - self._moved_at > self._patience.pull_s

    # --- the thread: from the image to the end -----------------------------------------------------------------------

    def _pieces(self) -> Iterator[float]:
        try:
            yield from self._get_ready()
            while self._order is None:
                self._check_killed()
                yield LOOK_EVERY_S
            yield from self._begin(self._order)
            while (ended := (yield from self._look())) is None:
                yield LOOK_EVERY_S
            yield from self._take_last_lines()
            raise _Over(ended)
        except _Over as over:
            self._doing = ""
            self._say(f"{over.ended.outcome}: {over.ended.message}")
            self._exit = over.ended
        except _Killed:
            self._say("to be ended")
        while self._killed_at is None:
            yield LOOK_EVERY_S
        yield from self._clear()
        for rank in self._ranks:
            for follower in rank.followers:
                follower.finish()
        if self._client is not None:
            self._client.close()
        self._log.close()

    def _get_ready(self) -> Iterator[float]:
        """Remove what an agent before this one has left; have the image."""
        work_dir = str(self._home.work_dir)
        yield from self._ask(lambda client: remove_containers(client, WORK_DIR_LABEL, work_dir))
        for pause_s in (*PULL_PAUSES_S, None):
            self._image = yield from self._ask(self._find_or_pull)
            if self._image is not None:
                self._do("")
                self._say(f"{self._image_name} is {self._image.digest}")
                return
            if pause_s is None:
                raise _Over(TrainerExit(outcome="failed", code=1, message=self._doing))
            self._do(f"{self._doing}; trying again")
            yield pause_s

    def _find_or_pull(self, client: "DockerClient") -> Image | None:
        """None: it could not be had now; `_doing` says why."""
        try:
            found = find_image(client, self._image_name)
            if found is None:
                self._say(f"pulling {self._image_name}")
                pull_image(client, self._image_name, self._do, lambda: self._killed_at is not None)
                self._check_killed()
                found = find_image(client, self._image_name)
        except ImageRefused as refused:
            raise _Over(TrainerExit(outcome="refused", code=BAD_INPUT, message=str(refused))) from refused
        except ImageNotHad as failed:
            self._say(str(failed))
            self._do(str(failed))
            return None
        if found is None:
            self._do(f"the image {self._image_name} was pulled, and is not there")
        return found

    def _begin(self, order: _Order) -> Iterator[float]:
        """Make and start all containers: the first rank's first, for the others share its namespaces."""
        assert self._image is not None
        rootless = yield from self._ask(lambda client: _is_rootless(client.info()))
        user = user_of_ranks(os.geteuid(), os.getegid(), rootless=rootless)
        crew = self._crew = Crew(
            assignment=order.assignment,
            run=order.run,
            program=self._program,
            image_id=self._image.id,
            work_dir=self._home.work_dir,
            agent=self._home.agent,
            instance=self._home.instance,
            user=user,
            own_address=order.own_address,
            gpus=order.gpus,
            folders=_present_folders(order.run),
        )
        if os.geteuid() == 0 and user.uid:
            _give(order.run.path, user.uid, user.gid)
        yield from self._meet(crew)
        yield from self._start_rank(crew, 0, "")
        others = range(1, order.assignment.workers)
        if others:
            yield from self._start_others(crew, others)

    def _start_others(self, crew: Crew, others: range) -> Iterator[float]:
        first_id = self._ranks[0].container_id

        def start_all(client: "DockerClient") -> list[str]:
            with ThreadPoolExecutor(8) as pool:
                return list(pool.map(lambda local: self._make_and_start(client, crew, local, first_id), others))

        try:
            started = yield from self._ask(start_all)
        except _Over:
            first = yield from self._ask(lambda client: self._seen_state(client, first_id))
            if first.get("Running", False):
                raise
            # Nobody joins the namespaces of one that has ended already: how it ended is the reason.
            self._incomplete = True
            return
        self._ranks += [
            self._followed(local, container_id) for local, container_id in zip(others, started, strict=True)
        ]

    def _start_rank(self, crew: Crew, local: int, first_id: str) -> Iterator[float]:
        started = yield from self._ask(lambda client: self._make_and_start(client, crew, local, first_id))
        self._ranks.append(self._followed(local, started))

    def _make_and_start(self, client: "DockerClient", crew: Crew, local: int, first_id: str) -> str:
        from docker.errors import APIError

        self._check_killed()
        wanted = crew.container(local, first_id)
        try:
            container_id = _make(client, wanted.config, wanted.host, wanted.alias)
            client.api.start(container_id)
        except APIError as error:
            raise _Over(self._not_started(error, crew, local)) from error
        self._say(f"rank {crew.global_rank(local)} is container {container_id[:12]}")
        return container_id

    def _followed(self, local: int, container_id: str) -> Rank:
        assert self._client is not None and self._crew is not None
        directory = self._crew.run.logs / "containers" / "attempt_0" / str(local)
        directory.mkdir(parents=True, exist_ok=True)
        rank = Rank(local, container_id)
        rank.followers = [
            Follower(self._client, container_id, stream, directory / f"{stream}.log", self._task.wake)
            for stream in ("stdout", "stderr")
        ]
        return rank

    def _not_started(self, error: "APIError", crew: Crew, local: int) -> TrainerExit:
        """Why a container could not be made or started, and whether it ever will."""
        said = " ".join((error.explanation or str(error)).split())
        if "could not select device driver" in said:
            why = (
                "the Docker engine has no NVIDIA runtime, and the job has GPUs: install nvidia-container-toolkit "
                "there, and run `nvidia-ctk runtime configure`"
            )
        elif "executable file not found" in said or ("exec:" in said and "no such file" in said):
            why = f"the image {self._image_name} has no program {crew.command()[0]}"
        elif "permission denied" in said and "exec" in said:
            why = f"the program {crew.command()[0]} of the image {self._image_name} cannot be executed"
        else:
            message = f"the container of rank {crew.global_rank(local)} could not be started: {said}"
            return TrainerExit(outcome="failed", code=1, message=message)
        return TrainerExit(outcome="refused", code=BAD_INPUT, message=why)

    def _meet(self, crew: Crew) -> Iterator[float]:
        """Have the private network of the generation: the first node makes it, the others wait for it."""
        meeting = crew.meeting
        if meeting.kind != "private":
            return
        labels = {**crew.labels, NETWORK_LABEL: meeting.name}
        until = self._monotonic() + self._patience.network_s
        while not (yield from self._ask(lambda client: client.api.networks(names=[meeting.name]))):
            if meeting.leads:
                yield from self._ask(lambda client: self._make_network(client, meeting.name, labels))
                self._say(f"made the network {meeting.name}")
                return
            if self._monotonic() > until:
                message = f"the first node has made no network within {self._patience.network_s:.0f} s"
                raise _Over(TrainerExit(outcome="failed", code=1, message=message))
            yield AGAIN_AFTER_S

    def _make_network(self, client: "DockerClient", name: str, labels: dict[str, str]) -> None:
        from docker.errors import APIError

        try:
            client.api.create_network(name, driver="bridge", internal=True, labels=labels, check_duplicate=True)
        except APIError as error:
            if error.status_code == 409:  # the reply to an earlier try was lost
                return
            said = " ".join((error.explanation or str(error)).split())
            message = f"the network between the containers could not be made: {said}"
            raise _Over(TrainerExit(outcome="failed", code=1, message=message)) from error

    # --- the thread: how the ranks are -------------------------------------------------------------------------------

    def _look(self) -> Generator[float, None, TrainerExit | None]:
        """Do what was asked, see who has ended; how all of them ended, once they have."""
        order = self._order
        assert order is not None
        listed = yield from self._ask(
            lambda client: client.api.containers(all=True, filters={"label": f"{RUN_LABEL}={order.run.path}"})
        )
        after_outage, self._was_away = self._was_away, False
        states = {row["Id"]: row["State"] for row in listed}
        for rank in self._ranks:
            if rank.end is not None:
                continue
            state = states.get(rank.container_id)
            if state is None:
                rank.end = RankEnd(-signal.SIGKILL, "", "has lost its container: somebody has removed it")
            elif state in ("exited", "dead") or rank.pid is None:
                yield from self._ask(partial(self._inspect, rank=rank, after_outage=after_outage))
            if rank.end is not None:
                self._say(f"rank {self._global(rank)} has ended with {rank.end.code} {rank.end.why}".rstrip())
        yield from self._ask(self._signal)
        if all(rank.end is not None for rank in self._ranks):
            return self._outcome(order)
        yield from self._end_the_others()
        return None

    def _inspect(self, client: "DockerClient", rank: Rank, after_outage: bool) -> None:
        state = self._seen_state(client, rank.container_id)
        if state.get("Status") in ("exited", "dead", None):
            rank.end = self._end_of(state, rank, after_outage)
        else:
            rank.pid = state.get("Pid") or None

    def _seen_state(self, client: "DockerClient", container_id: str) -> Mapping[str, Any]:
        """The engine's account of a container; an empty one of one that is no more."""
        from docker.errors import NotFound

        try:
            state: Mapping[str, Any] = client.api.inspect_container(container_id)["State"]
        except NotFound:
            return {}
        return state

    def _end_of(self, state: Mapping[str, Any], rank: Rank, after_outage: bool) -> RankEnd:
        at = str(state.get("FinishedAt", ""))
        code = _exit_code(int(state.get("ExitCode", _UNKNOWN_EXIT)))
        if rank.ended_by_us:
            return RankEnd(ENDED_BY_US, at)
        if state.get("OOMKilled") and code not in (FINISHED, DRAINED):
            return RankEnd(code, at, self._out_of_memory())
        ended_with_engine = after_outage and code in (-signal.SIGKILL, -signal.SIGTERM, _UNKNOWN_EXIT)
        return RankEnd(code, at, with_engine=ended_with_engine)

    def _out_of_memory(self) -> str:
        assert self._crew is not None
        limit_bytes = self._crew.assignment.memory_bytes
        if limit_bytes is None:
            return "was ended by the kernel: the machine has no memory left for it"
        return f"was ended by the kernel: it used its {format_size(limit_bytes)} of memory; raise resources.memory"

    def _signal(self, client: "DockerClient") -> None:
        """What was asked for since the last look."""
        self._check_killed()
        rounds, stacks, self._stacks_wanted = self._rounds, self._stacks_wanted, False
        for rank in self._ranks:
            if rank.end is not None:
                continue
            if stacks:
                _send(client, rank, signal.SIGUSR1)
            if rank.asked < rounds:
                if rank.asked and not _heeds(rank.pid, signal.SIGTERM):
                    # As the first process of its container it does not end by a signal that it does not know.
                    self._say(f"rank {self._global(rank)} does not know SIGTERM: it is ended")
                    _send(client, rank, signal.SIGKILL)
                    rank.ended_by_us = True
                else:
                    _send(client, rank, signal.SIGTERM)
                rank.asked = rounds

    def _end_the_others(self) -> Iterator[float]:
        """When one has failed, or drained, the others are not to go on."""
        ends = [rank.end for rank in self._ranks if rank.end is not None and rank.end.code != FINISHED]
        if not ends:
            return
        drained = all(end.code == DRAINED for end in ends)
        if drained and not self._rounds:
            self._rounds = 1
            yield from self._ask(self._signal)
        if self._first_end_at is None or (self._ends_well and not drained):
            self._first_end_at, self._ends_well = self._monotonic(), drained
        within_s = DRAIN_TOGETHER_WITHIN_S if drained else TOGETHER_WITHIN_S
        if self._monotonic() - self._first_end_at < within_s:
            yield AGAIN_AFTER_S
            return
        for rank in self._ranks:
            if rank.end is None:
                rank.ended_by_us = True
                yield from self._ask(partial(_send, rank=rank, number=signal.SIGKILL))

    def _outcome(self, order: _Order) -> TrainerExit:
        ended = sorted(((rank, rank.end) for rank in self._ranks if rank.end), key=lambda each: each[1].at)
        with_engine = [rank for rank, end in ended if end.with_engine]
        if with_engine:
            message = f"the Docker engine was started again, and rank {self._global(with_engine[0])} ended with it"
            return TrainerExit(outcome="lost", code=1, message=message)
        assert self._crew is not None
        codes = {self._global(rank): end.code for rank, end in ended}
        if self._incomplete and set(codes.values()) == {FINISHED}:
            message = f"rank {self._crew.global_rank(0)} ended before the others had begun"
            return TrainerExit(outcome="failed", code=1, message=message)
        code = common_code(codes.values())
        known = {self._global(rank): end.why for rank, end in ended if end.why}
        failure = well_ended(code, None) or failure_of_ranks(
            {rank: each for rank, each in codes.items() if each != FINISHED},
            order.run,
            first_rank=self._crew.global_rank(0),
            code=code,
            step=None,
            known=known,
        )
        assert failure is not None
        return failure

    def _take_last_lines(self) -> Iterator[float]:
        for rank in self._ranks:
            for follower in rank.followers:
                follower.finish()
        until = self._monotonic() + LAST_LINES_WITHIN_S
        while self._monotonic() < until and not all(f.done for rank in self._ranks for f in rank.followers):
            yield 0.02

    def _global(self, rank: Rank) -> int:
        assert self._crew is not None
        return self._crew.global_rank(rank.local)

    # --- the thread: the engine --------------------------------------------------------------------------------------

    def _ask(self, what: "Callable[[DockerClient], T]") -> Generator[float, None, T]:
        """Ask the engine; while it is away again and again. Raises _Over when it stays away, _Killed."""
        while True:
            self._check_killed()
            try:
                if self._client is None:
                    self._client = connect(self._environ)
                answer = what(self._client)
            except EngineError as error:
                self._note_absence(error)
            except Exception as error:
                if isinstance(error, (_Over, _Killed)) or not is_absence(error):
                    raise
                self._note_absence(unreachable(error, self._environ))
            else:
                self._answered, self._away_since = True, None
                return answer
            yield AGAIN_AFTER_S

    def _note_absence(self, error: EngineError) -> None:
        now = self._monotonic()
        if self._away_since is None:
            self._away_since = now
            self._say(str(error))
        self._was_away = True
        if self._image is None:
            self._do(f"waiting for the Docker engine: {error}")
        patience_s = self._patience.away_s if self._answered else self._patience.first_answer_s
        if error.may_pass and now - self._away_since < patience_s:
            return
        has_trained = self._order is not None and self._order.assignment.resume is not None
        if self._answered or has_trained:
            message = f"{error} (for {now - self._away_since:.0f} s)"
            raise _Over(TrainerExit(outcome="lost", code=1, message=message))
        raise _Over(TrainerExit(outcome="refused", code=BAD_INPUT, message=str(error)))

    def _check_killed(self) -> None:
        if self._killed_at is not None:
            raise _Killed

    def _clear(self) -> Iterator[float]:
        """Remove containers and network. An engine that is away is waited for."""
        order = self._order
        until = self._monotonic() + self._patience.clear_s
        while order is not None and self._monotonic() < until:
            try:
                self._client = self._client or connect(self._environ)
                left = remove_containers(self._client, RUN_LABEL, str(order.run.path))
                if self._crew is not None and self._crew.meeting.kind == "private":
                    for network in self._client.api.networks(names=[self._crew.meeting.name]):
                        remove_network(self._client, network["Id"])
            except Exception as error:
                if not isinstance(error, EngineError) and not is_absence(error):
                    raise
                self._away_since = self._away_since or self._monotonic()
            else:
                self._away_since = None
                if not left:
                    break
            yield AGAIN_AFTER_S
        self._cleared = True

    def _do(self, activity: str) -> None:
        if activity != self._doing:
            self._doing = activity
            self._moved_at = self._monotonic()

    def _say(self, message: str) -> None:
        self._log.write(message + "\n")


def _make(client: "DockerClient", config: dict[str, Any], host: dict[str, Any], alias: str | None) -> str:
    """Make a container, or have the one that an earlier try has made. Raises APIError."""
    from docker.errors import APIError

    networking = None
    if alias is not None:
        endpoint = client.api.create_endpoint_config(aliases=[alias])
        # The stubs take it for one endpoint; it is a network's name, and the endpoint there.
        networking = client.api.create_networking_config({host["network_mode"]: endpoint})  # type: ignore[arg-type]
    try:
        made = client.api.create_container(
            **config, host_config=client.api.create_host_config(**host), networking_config=networking
        )
    except APIError as error:
        if error.status_code != 409:
            raise
        return str(client.api.inspect_container(config["name"])["Id"])  # the reply was lost, and it was made
    return str(made["Id"])


def _send(client: "DockerClient", rank: Rank, number: signal.Signals) -> None:
    from docker.errors import APIError

    try:
        client.api.kill(rank.container_id, number.name)
    except APIError:
        return  # it has ended meanwhile: the next look tells how


def _heeds(pid: int | None, number: signal.Signals) -> bool:
    """Whether a process catches or ignores a signal; true where that cannot be told."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True
    fields = dict(line.split(":\t", 1) for line in lines if line.startswith(("SigCgt:", "SigIgn:")))
    masks = [int(mask, 16) for mask in fields.values()]
    return not masks or any(mask >> (number - 1) & 1 for mask in masks)


def _exit_code(code: int) -> int:
    """As processes have it: negative after a signal, where containers add 128."""
    return 128 - code if 128 < code < _UNKNOWN_EXIT else code


def _is_rootless(info: Mapping[str, Any]) -> bool:
    return any("name=rootless" in option for option in info.get("SecurityOptions") or ())


def _present_folders(run: RunDirectory) -> tuple[Path, ...]:
    """What the run's config names and is there; of what is not the program says so itself."""
    try:
        config = json.loads(run.config.read_text())
    except (OSError, ValueError):
        return ()
    return tuple(folder for folder in folders_of(config) if folder.exists()) if isinstance(config, dict) else ()


def _give(directory: Path, uid: int, gid: int) -> None:
    """Make a directory somebody else's, with all that is in it."""
    os.chown(directory, uid, gid)
    for path in directory.rglob("*"):
        os.chown(path, uid, gid, follow_symlinks=False)
