"""The agent's logic on a virtual clock: a machine of a few lines, whose ranks do as a test says."""
# ruff: noqa: ARG002 - much of what a real machine is told does not matter to this one

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from orchestrator.agent.background import Work
from orchestrator.agent.equipment import Asker, Place
from orchestrator.agent.images import Bringing
from orchestrator.agent.supervisor import Supervisor
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_heartbeat, submit_job
from orchestrator.jobs.head import ManifestFile, load_head, seal
from orchestrator.jobs.instances import Assignment, Heartbeat, TrainerExit
from orchestrator.jobs.pace import Pace
from orchestrator.store import document
from orchestrator.store.document import random_nonce
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Store
from tests.support.interposed import InterposedStore
from tests.support.specs import job_spec

INSTANCE, JOB = "digits-g1-n0-a0", "digits"
CHECKPOINT_EVERY_S = 60


@dataclass
class Task:
    """Work that is due at some time."""

    work: Work
    due_s: float
    done: bool = False
    crashed: bool = False

    def wake(self) -> None:
        self.due_s = 0.0


@dataclass(frozen=True)
class State:
    """The one file of a checkpoint."""

    step: int
    name: str = "state.bin"
    size_bytes: int = 1

    def upload(self, store: Store, key: str) -> str:
        store.create(key, b"x")
        return f"sha of {self.step}"


@dataclass
class Checkpoint:
    step: int
    place: "list[Checkpoint]"
    last: bool = False

    @property
    def final(self) -> bool:
        assert self in self.place, "it is gone, and cannot be asked any more"
        return self.last

    @property
    def replaced(self) -> bool:
        return self not in self.place

    def files(self) -> Sequence[State]:
        return [State(self.step)]

    def remove(self) -> None:
        self.place.remove(self)


@dataclass(eq=False)
class Nothing:
    """A log that stays empty."""

    def read(self, offset: int, limit_bytes: int) -> bytes:
        return b""


@dataclass
class Run:
    path: Path
    checkpoints: list[Checkpoint] = field(default_factory=list)
    steps: int = 0
    read: int = 0
    said: list[Mapping[str, Any]] = field(default_factory=list)
    tells: Callable[[], bool] = lambda: True
    """Whether the trainer writes lines of progress here."""
    progress_log: Nothing = field(default_factory=Nothing)

    def prepare(self, config: Mapping[str, Any]) -> None:
        return None

    def bring(self, store: Store, key: str, file: ManifestFile) -> str | None:
        return None if store.get(key) else "gone"

    def forget_resume(self) -> None:
        return None

    def whole_checkpoints(self) -> Sequence[Checkpoint]:
        return list(self.checkpoints)

    def new_lines(self) -> Iterator[Mapping[str, Any]]:
        said, self.said = self.said, []
        yield from said
        if self.tells() and self.steps > self.read:
            self.read = self.steps
            yield {"step": self.steps}

    def rank_logs(self, local_rank: int) -> Sequence[Nothing]:
        return []


@dataclass
class Ranks:
    """They make a step each second, and end a second after they were asked to; or not, as the machine has it."""

    machine: "VirtualMachine"
    pids: tuple[int, ...] = ()
    image: str = ""
    log: Nothing = field(default_factory=Nothing)
    run: Run | None = None
    drain_at_s: float | None = None
    dumped: int = 0
    killed: bool = False

    @property
    def warm(self) -> bool:
        return not self.machine.cold

    @property
    def activity(self) -> str:
        return self.machine.pulling

    def start(self, run: Any, assignment: Assignment, *, own_address: str, gpus: tuple[int, ...]) -> None:
        self.run = run

    def ask_to_drain(self, *, again: bool = False) -> None:
        if not self.machine.deaf and self.drain_at_s is None:
            self.drain_at_s = self.machine.now_s + 1

    def dump_stacks(self) -> None:
        self.dumped += 1

    def kill(self) -> None:
        self.killed = True

    def gone(self) -> bool:
        return self.killed and not self.machine.immortal

    def poll(self, step: int | None) -> TrainerExit | None:
        if self.gone():
            return TrainerExit(outcome="failed", code=1, message="killed", step=step)
        if self.machine.exits_with is not None:
            return self.machine.exits_with
        if self.run is not None and self.drain_at_s is not None and self.machine.now_s >= self.drain_at_s:
            self.drain_at_s = float("inf")
            self.run.checkpoints.append(Checkpoint(self.run.steps, self.run.checkpoints))
            return TrainerExit(outcome="drained", code=75, message="drained", step=step)
        return None

    def live(self) -> None:
        """A second has passed."""
        if self.run is None or self.killed or self.machine.stuck:
            return
        self.run.steps += 1
        if self.run.steps % CHECKPOINT_EVERY_S == 0 and not self.machine.keeps_to_itself:
            self.run.checkpoints.append(Checkpoint(self.run.steps, self.run.checkpoints))


@dataclass
class Busy:
    """A sampler that says what the machine says."""

    machine: "VirtualMachine"
    source: Literal["nvml", "cpu"] = "cpu"

    def sample(self) -> float | None:
        return self.machine.percent


class VirtualMachine:
    """One agent with its store and what can go wrong around it. `live` has time pass."""

    look_every_s = glance_every_s = 1.0

    def __init__(
        self,
        root: Path,
        *,
        idle_exit_s: float = 120.0,
        allowance_s: float | None = None,
        pace: Pace | None = None,
        instance_id: str = "",
    ) -> None:
        self.now_s = 0.0
        self.cold = self.deaf = self.stuck = self.immortal = self.keeps_to_itself = self.says_nothing = False
        self.pulling = ""
        self.percent: float | None = None
        self.exits_with: TrainerExit | None = None
        self.log: list[str] = []
        self.ended_s: float | None = None
        self.bucket = MemoryStore()
        self.store = InterposedStore(self.bucket)
        self.prompt_store = InterposedStore(self.store)
        self.launchers: list[Ranks] = []
        self.background = self
        self._tasks: list[Task] = []
        self._root = root
        submit_job(self.bucket, job_spec(JOB), self.now(), random_nonce)
        place = Place(INSTANCE, JOB, 1, 1, (), idle_exit_s, instance_id=instance_id, allowance_s=allowance_s)
        self.agent = Supervisor(self.store, place, self, random_nonce, self.log.append, pace, self.prompt_store)

    # --- what a test does ---------------------------------------------------------------------------------------------

    def live(self, seconds: float) -> bool:
        """Let time pass, a second at a time; whether the agent is still there."""
        until = self.now_s + seconds
        while self.ended_s is None and self.now_s < until:
            self.now_s += 1.0
            for ranks in self.launchers:
                ranks.live()
            self._work()
            if self.agent.turn() is None:
                self.ended_s = self.now_s
        return self.ended_s is None

    def assign(self, action: Literal["run", "drain", "stop"] = "run", *, generation: int = 1, **more: Any) -> None:
        """As the controller does; what is not said stays as it was."""
        seal(self.bucket, JOB, 1, generation, random_nonce)
        key = layout.assignment_key(INSTANCE)
        present = document.load(self.bucket, key, Assignment)
        if present is None:
            first = Assignment(epoch=1, job=JOB, generation=generation, action=action)
            wanted = first.model_copy(update={"checkpoint_every_s": CHECKPOINT_EVERY_S, **more})
            document.create(self.bucket, key, wanted, random_nonce)
        else:
            wanted = present.value.model_copy(update={"generation": generation, "action": action, **more})
            document.swap(self.bucket, key, present, wanted, random_nonce)

    @property
    def beat(self) -> Heartbeat:
        beat = load_heartbeat(self.bucket, INSTANCE)
        assert beat is not None
        return beat

    @property
    def committed(self) -> int:
        head = load_head(self.bucket, JOB)
        return head.value.step if head else 0

    # --- what the agent takes from it ---------------------------------------------------------------------------------

    def start(self, work: Work, name: str, *, nice: bool = False) -> Task:
        task = Task(work, self.now_s)
        self._tasks.append(task)
        return task

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now_s)

    def monotonic(self) -> float:
        return self.now_s

    def age_s(self) -> float:
        return self.now_s

    def launcher(self) -> Ranks:
        self.launchers.append(Ranks(self))
        return self.launchers[-1]

    def run_directory(self, generation: int) -> Run:
        return Run(self._root / str(generation), tells=lambda: not self.says_nothing)

    def images(self, asker: Asker) -> Bringing:
        return Bringing(self._root, asker)

    def sampler(self, pids: Callable[[], Sequence[int]]) -> Busy:
        return Busy(self)

    def free_port(self) -> int:
        return 1

    def _work(self) -> None:
        for task in self._tasks:
            while not task.done and task.due_s <= self.now_s:
                try:
                    pause_s = task.work()
                except ZeroDivisionError:  # a test's own
                    pause_s, task.crashed = None, True
                task.done = pause_s is None
                task.due_s = self.now_s + (pause_s or 0.0)
