"""The workers of one generation as containers, one for each rank, as the agent holds them.

What the agent calls never waits: a thread of its own speaks with the engine, and does what was asked at its next look.
The engine may be away for a while. Containers that live on meanwhile are followed on when it is back; those that ended
with it are lost, like an instance.
"""

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.agent.background import Background, in_pieces
from orchestrator.agent.containers.asking import AGAIN_AFTER_S, Engine, EngineAway, EngineRefused, Killed
from orchestrator.agent.containers.ends import failed
from orchestrator.agent.containers.following import Follower
from orchestrator.agent.containers.image import Image, ImageNotHad, ImageRefused, find_image, pull_image
from orchestrator.agent.containers.ranks import HOST_RUN_MARKER, Crew, user_of_ranks
from orchestrator.agent.containers.shown import NotShown, shown_folders
from orchestrator.agent.containers.standing import Home, Order, Patience, Rank, Standing, Wishes
from orchestrator.agent.containers.starting import (
    NotStarted,
    give,
    is_rootless,
    make_network,
    start_rank,
    state_of,
)
from orchestrator.agent.containers.watching import Watch
from orchestrator.agent.equipment import Run
from orchestrator.agent.launcher import TRAINER, Program, kill_marked
from orchestrator.agent.run_directory import BAD_INPUT, LocalFile, RunDirectory
from orchestrator.fleets.engine import RUN_LABEL, WORK_DIR_LABEL, EngineError, remove_containers, remove_network
from orchestrator.jobs.instances import Assignment, TrainerExit

if TYPE_CHECKING:
    from docker import DockerClient

LOOK_EVERY_S = 1.0
"""How ranks are; what the engine tells by itself, and what is asked for, is looked at at once."""
PULL_PAUSES_S = (2.0, 5.0, 15.0, 30.0)
"""Between tries to pull an image whose registry does not answer."""
KILL_AGAIN_AFTER_S = 2.0


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
        self._wishes = Wishes()
        self._standing = Standing(moved_at=monotonic())
        self._engine = Engine(
            environ,
            monotonic,
            self._missed,
            lambda: self._wishes.is_killed,
            first_answer_s=self._patience.first_answer_s,
            away_s=self._patience.away_s,
        )
        self._crew: Crew | None = None
        self._last_said = ""
        self._mark: object = None
        self._log = open(log, "a", buffering=1)  # noqa: SIM115 - it is written as long as the workers are there
        self._task = background.start(in_pieces(self._pieces()), "containers")

    # --- what the agent asks -----------------------------------------------------------------------------------------

    @property
    def warm(self) -> bool:
        """Whether the image is there; also true when it will not be, for starting tells why."""
        standing = self._standing
        return standing.image is not None or standing.exit is not None or self._task.done or self._sticks

    @property
    def pids(self) -> tuple[int, ...]:
        """The first process of each rank, as this machine numbers it."""
        return tuple(rank.pid for rank in self._standing.ranks if rank.pid and rank.end is None)

    @property
    def activity(self) -> str:
        """What takes long before the ranks can begin."""
        return self._standing.doing

    @property
    def image(self) -> str:
        """The image by its digest, once it is there."""
        return "" if self._standing.image is None else self._standing.image.digest

    @property
    def log(self) -> LocalFile:
        """What was done with the engine."""
        return LocalFile(self.log_path)

    def start(self, run: Run, assignment: Assignment, *, own_address: str, gpus: tuple[int, ...]) -> None:
        """Begin to train."""
        directory = RunDirectory(run.path)
        directory.keep_container_logs()
        self._wishes.order = Order(directory, assignment, own_address, gpus)
        self._task.wake()

    def ask_to_drain(self, *, again: bool = False) -> None:
        """SIGTERM to every rank, also to those that are not there yet; with `again` once more."""
        if again or not self._wishes.drain_rounds:
            self._wishes.drain_rounds += 1
            self._task.wake()

    def dump_stacks(self) -> None:
        """SIGUSR1 to the ranks: they print the stacks of their threads."""
        self._wishes.stacks = True
        self._task.wake()

    def kill(self) -> None:
        """Remove whatever there is of them."""
        if not self._wishes.is_killed:
            self._wishes.killed_at = self._monotonic()
            self._task.wake()

    def gone(self) -> bool:
        """After `kill`: whether nothing is left. While the engine is away its processes are killed without it."""
        order, killed_at = self._wishes.order, self._wishes.killed_at
        if order is None or self._standing.cleared:
            return True
        nobody_asks = self._engine.away_since is not None or self._task.done
        late = killed_at is not None and self._monotonic() - killed_at > KILL_AGAIN_AFTER_S
        if not (nobody_asks or late):
            return False
        return not kill_marked(str(order.run.path), HOST_RUN_MARKER) and nobody_asks

    def poll(self, step: int | None) -> TrainerExit | None:
        """How they ended, or None while they run."""
        ended = self._standing.exit
        if ended is None and self._task.done:
            ended = failed("what speaks with the Docker engine has ended by a fault of its own: see agent.log")
        elif ended is None and self._sticks:
            doing = self._standing.doing or f"the image {self._image_name} is looked for"
            ended = failed(f"{doing}: no more has come for {self._patience.pull_s:.0f} s; see how the engine is")
        return None if ended is None else ended.model_copy(update={"step": step})

    @property
    def _sticks(self) -> bool:
        standing = self._standing
        return standing.image is None and self._monotonic() - standing.moved_at > self._patience.pull_s

    # --- the thread: from the image to the end -----------------------------------------------------------------------

    def _pieces(self) -> Iterator[float]:
        try:
            ended = yield from self._live()
            self._do("")
            self._say(f"{ended.outcome}: {ended.message}")
            self._standing.exit = ended
        except Killed:
            self._say("to be ended")
        while not self._wishes.is_killed:
            yield LOOK_EVERY_S
        yield from self._clear()

    def _live(self) -> Generator[float, None, TrainerExit]:
        """From now to the end of the ranks, however they end. Raises Killed."""
        try:
            yield from self._get_ready()
            while (order := self._wishes.order) is None:
                if self._wishes.is_killed:
                    raise Killed
                yield LOOK_EVERY_S
            crew = yield from self._begin(order)
            watch = Watch(
                self._engine, crew, self._wishes, self._standing, self._say, self.ask_to_drain, self._monotonic
            )
            while (ended := (yield from watch.look())) is None:
                yield LOOK_EVERY_S
            return ended
        except NotStarted as never:
            return never.ended
        except EngineRefused as refused:
            return failed(str(refused))
        except (ImageRefused, NotShown) as refused:
            return TrainerExit(outcome="refused", code=BAD_INPUT, message=str(refused))
        except EngineAway as away:
            has_trained = self._wishes.order is not None and self._wishes.order.assignment.resume is not None
            if away.has_answered or has_trained:
                return TrainerExit(outcome="lost", code=1, message=f"{away} (it is away for {away.away_s:.0f} s)")
            return TrainerExit(outcome="refused", code=BAD_INPUT, message=str(away))

    def _get_ready(self) -> Iterator[float]:
        """Remove what an agent before this one has left; have the image."""
        work_dir = str(self._home.work_dir)
        while (yield from self._engine.ask(lambda client: remove_containers(client, WORK_DIR_LABEL, work_dir))):
            self._do("the containers of an agent before this one are removed")
            yield AGAIN_AFTER_S
        for pause_s in (*PULL_PAUSES_S, None):
            try:
                image = yield from self._engine.ask(self._find_or_pull)
            except ImageNotHad as error:
                if pause_s is None:
                    raise NotStarted(failed(str(error))) from error
                self._say(str(error))
                self._do(f"{error}; trying again")
                yield pause_s
                continue
            self._say(f"{self._image_name} is {image.digest}")
            self._standing.image = image
            self._do("")
            return

    def _find_or_pull(self, client: "DockerClient") -> Image:
        found = find_image(client, self._image_name)
        if found is None:
            self._say(f"pulling {self._image_name}")
            pull_image(client, self._image_name, self._do, lambda: self._wishes.is_killed)
            if self._wishes.is_killed:
                raise Killed
            found = find_image(client, self._image_name)
        if found is None:
            raise ImageNotHad(f"the image {self._image_name} was pulled, and is not there")
        return found

    def _begin(self, order: Order) -> Generator[float, None, Crew]:
        """Make and start all containers: the first rank's first, for the others share its namespaces."""
        assert self._standing.image is not None
        rootless = yield from self._engine.ask(is_rootless)
        user = user_of_ranks(os.geteuid(), os.getegid(), rootless=rootless)
        crew = self._crew = Crew(
            assignment=order.assignment,
            run=order.run,
            program=self._program,
            image_id=self._standing.image.id,
            work_dir=self._home.work_dir,
            agent=self._home.agent,
            instance=self._home.instance,
            user=user,
            own_address=order.own_address,
            gpus=order.gpus,
            folders=shown_folders(order.run, self._home.work_dir, self._environ, self._say),
        )
        if self._home.guard is not None:
            self._home.guard.begins(str(order.run.path))
        if crew.open_folder is not None:
            crew.open_folder.mkdir(exist_ok=True)
            crew.open_folder.chmod(0o755)
        if os.geteuid() == 0 and user.uid:
            give(order.run.path, user)
        if crew.meeting.kind == "private":
            yield from self._meet(crew)
        first = yield from self._engine.ask(partial(self._start, crew=crew, first_id="", local_rank=0))
        self._standing.ranks.append(self._followed(crew, 0, first))
        if order.assignment.workers > 1:
            yield from self._start_others(crew, first)
        return crew

    def _start_others(self, crew: Crew, first_id: str) -> Iterator[float]:
        others = range(1, crew.assignment.workers)

        def start_all(client: "DockerClient") -> list[str]:
            with ThreadPoolExecutor(8) as pool:
                return list(pool.map(partial(self._start, client, crew, first_id), others))

        try:
            started = yield from self._engine.ask(start_all)
        except NotStarted:
            state = yield from self._engine.ask(lambda client: state_of(client, first_id))
            if state.get("Running", False):
                raise
            # Nobody joins the namespaces of one that has ended already: how it ended is the reason.
            self._standing.is_incomplete = True
            return
        self._standing.ranks += [
            self._followed(crew, local, started_id) for local, started_id in zip(others, started, strict=True)
        ]

    def _start(self, client: "DockerClient", crew: Crew, first_id: str, local_rank: int) -> str:
        if self._wishes.is_killed:
            raise Killed
        container_id = start_rank(client, crew, self._image_name, local_rank, first_id)
        self._say(f"rank {crew.global_rank(local_rank)} is container {container_id[:12]}")
        return container_id

    def _followed(self, crew: Crew, local_rank: int, container_id: str) -> Rank:
        directory = crew.run.container_logs(local_rank)
        followers = [
            Follower(self._engine.client, container_id, stream, directory / f"{stream}.log", self._task.wake)
            for stream in ("stdout", "stderr")
        ]
        return Rank(crew.global_rank(local_rank), container_id, followers)

    def _meet(self, crew: Crew) -> Iterator[float]:
        """Have the private network of the generation: the first node makes it, the others wait for it."""
        name = crew.meeting.name
        until = self._monotonic() + self._patience.network_s
        while not (yield from self._engine.ask(lambda client: client.api.networks(names=[name]))):
            if crew.meeting.leads:
                yield from self._engine.ask(lambda client: make_network(client, crew))
                self._say(f"made the network {name}")
                return
            if self._monotonic() > until:
                raise NotStarted(failed(f"the first node has made no network within {self._patience.network_s:.0f} s"))
            yield AGAIN_AFTER_S

    # --- the thread: the end -----------------------------------------------------------------------------------------

    def _clear(self) -> Iterator[float]:
        """Remove containers and network. An engine that is away is waited for."""
        until = self._monotonic() + self._patience.clear_s
        while (order := self._wishes.order) is not None and self._monotonic() < until:
            try:
                if self._engine.ask_once(self._remove_all):
                    if self._home.guard is not None:
                        self._home.guard.is_clear(str(order.run.path))
                    break
            except EngineError:
                pass  # it is asked again
            except EngineRefused as refused:
                self._say(str(refused))
            yield AGAIN_AFTER_S
        for rank in self._standing.ranks:
            for follower in rank.followers:
                follower.finish()
        self._standing.cleared = True
        self._engine.close()
        with contextlib.suppress(OSError):
            self._log.close()

    def _remove_all(self, client: "DockerClient") -> bool:
        assert self._wishes.order is not None
        left = remove_containers(client, RUN_LABEL, str(self._wishes.order.run.path))
        if self._crew is not None and self._crew.meeting.kind == "private":
            for network in client.api.networks(names=[self._crew.meeting.name]):
                remove_network(client, network["Id"])
        return not left

    def _missed(self, error: EngineError) -> None:
        """The engine does not answer: said once, and shown while nothing else is."""
        told = f"waiting for the Docker engine: {error}"
        if told != self._last_said:
            self._say(told)
        if self._standing.image is None:
            self._do(told)

    def _do(self, activity: str, mark: object = None) -> None:
        """`mark`: another one is a movement too, where the words stay the same."""
        if (activity, mark) != (self._standing.doing, self._mark):
            self._standing.doing, self._mark = activity, mark
            self._standing.moved_at = self._monotonic()

    def _say(self, message: str) -> None:
        self._last_said = message
        with contextlib.suppress(OSError):  # a full disk: what is told of is not to fail by it
            self._log.write(message + "\n")
