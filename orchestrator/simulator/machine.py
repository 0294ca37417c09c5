"""A simulated instance: the real agent on a machine whose disk is a dictionary and whose ranks are a `Gang`.

Implements the ports of `orchestrator.agent.equipment`; the logic above them is the agent's own.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from orchestrator.agent import launcher
from orchestrator.agent.background import Work
from orchestrator.agent.equipment import Asker, Place
from orchestrator.agent.run_directory import DRAINED, FINISHED
from orchestrator.agent.supervisor import Supervisor
from orchestrator.jobs.head import ManifestFile
from orchestrator.jobs.instances import Assignment, TrainerExit
from orchestrator.jobs.pace import Pace
from orchestrator.simulator.bucket import BucketView
from orchestrator.simulator.cloud import NOTICE_S, Cloud, Instance
from orchestrator.simulator.faults import Faults
from orchestrator.simulator.job_rules import SECRET
from orchestrator.simulator.story import Story
from orchestrator.simulator.timeline import Alarm, Process, Timeline
from orchestrator.simulator.trainer import RESULT, Disk, Gang
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Store

WARM_AFTER_S = 6.0
TURN_AT_LEAST_S = 0.5
IDLE_EXIT_S = 540.0
LOOK_EVERY_S = 5.0
_ENVIRONMENT = {
    "PATH": "/usr/bin",
    "AWS_ACCESS_KEY_ID": SECRET,
    "AWS_SESSION_TOKEN": SECRET,
    "HUB_TOKEN": SECRET,
    "PGPASSWORD": SECRET,
    "ELASTIC_STORE": f"s3://{SECRET}",
}
"""Of every agent. Nothing in it that opens a door may come to the workers, for they print what they have."""

GangFor = Callable[[Assignment], Gang]
"""The ranks of a generation, the same for all its nodes."""


def _uploaded(store: Store, key: str, body: bytes) -> str:
    assert isinstance(store, BucketView)
    return store.upload_bytes(key, body)


@dataclass(frozen=True)
class SimulatedFile:
    """A file of a checkpoint."""

    name: str
    body: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.body)

    def upload(self, store: Store, key: str) -> str:
        return _uploaded(store, key, self.body)


@dataclass(frozen=True)
class SimulatedCheckpoint:
    """A checkpoint on a simulated disk."""

    disk: Disk
    step: int

    @property
    def final(self) -> bool:
        return RESULT in self.disk.checkpoints[self.step]

    @property
    def replaced(self) -> bool:
        return False  # the simulated trainer's bytes of a step are the same each time

    def files(self) -> Sequence[SimulatedFile]:
        return [SimulatedFile(name, body) for name, body in sorted(self.disk.checkpoints[self.step].items())]

    def remove(self) -> None:
        self.disk.checkpoints.pop(self.step, None)


@dataclass(frozen=True, eq=False)
class SimulatedLog:
    """A file that only grows."""

    pieces: list[bytes]

    def read(self, offset: int, limit_bytes: int) -> bytes:
        return b"".join(self.pieces)[offset : offset + limit_bytes]


class SimulatedRun:
    """A run directory on a simulated disk."""

    def __init__(self, timeline: Timeline, generation: int, full_until_s: Callable[[], float]) -> None:
        self.path = Path(f"run-g{generation:06d}")
        self.disk = Disk()
        self._timeline = timeline
        self._full_until_s = full_until_s
        self._read = 0
        self._progress = SimulatedLog(self.disk.lines)
        self._printed = SimulatedLog(self.disk.printed)

    def _check_space(self) -> None:
        self.disk.full_until_s = self._full_until_s()
        if self._timeline.now_s < self.disk.full_until_s:
            raise OSError(28, "No space left on device")

    def prepare(self, config: Mapping[str, Any]) -> None:  # noqa: ARG002 - the course is known
        self._check_space()
        self.disk.resume.clear()
        self.disk.checkpoints.clear()

    def bring(self, store: Store, key: str, file: ManifestFile) -> str | None:
        self._check_space()
        found = store.get(key)
        if found is None:
            return f"{file.name} is missing"
        if hashlib.sha256(found.body).hexdigest() != file.sha256:
            return f"{file.name} has another SHA-256 than its manifest says"
        self.disk.resume[file.name] = found.body
        return None

    def forget_resume(self) -> None:
        self.disk.resume.clear()

    def whole_checkpoints(self) -> Sequence[SimulatedCheckpoint]:
        self.disk.full_until_s = self._full_until_s()
        return [SimulatedCheckpoint(self.disk, step) for step in sorted(self.disk.checkpoints)]

    def new_lines(self) -> Iterator[Mapping[str, Any]]:
        new = self.disk.lines[self._read :]
        self._read += len(new)
        return iter([json.loads(line) for line in new])

    def rank_logs(self, local_rank: int) -> Sequence[SimulatedLog]:
        return [self._printed] if local_rank == 0 else []

    @property
    def progress_log(self) -> SimulatedLog:
        return self._progress


@dataclass
class SimulatedWorkers:
    """The launcher and ranks of one node."""

    timeline: Timeline
    gang_for: GangFor
    warm_at_s: float
    disk: Disk = field(default_factory=Disk)
    pids: tuple[int, ...] = (1,)
    activity: str = ""
    image: str = ""
    killed: bool = False
    _rank: int = 0
    _gang: Gang | None = None
    _exit: tuple[int, str] | None = None
    log: SimulatedLog = field(default_factory=lambda: SimulatedLog([]))

    @property
    def warm(self) -> bool:
        return self.timeline.now_s >= self.warm_at_s

    def start(self, run: Any, assignment: Assignment, *, own_address: str, gpus: tuple[int, ...]) -> None:  # noqa: ARG002
        assert isinstance(run, SimulatedRun)
        self.disk, self._rank = run.disk, assignment.node_rank
        self.disk.environment = launcher.worker_environment(_ENVIRONMENT)
        self._gang = self.gang_for(assignment)
        self._gang.join(self._rank, self)

    def ask_to_drain(self, *, again: bool = False) -> None:  # noqa: ARG002 - once is enough here
        if self._gang is not None and self._exit is None:
            self._gang.ask_to_drain()

    def dump_stacks(self) -> None:
        self.disk.printed.append(b"Current thread (most recent call first): all_reduce\n")

    def kill(self) -> None:
        gang, self._gang = self._gang, None
        if self.killed:
            return
        self.killed = True
        if self._exit is None:
            self._exit = (-9, "killed")
            if gang is not None:
                gang.leave(self._rank)

    def gone(self) -> bool:
        return self.killed

    def exited(self, code: int, message: str) -> None:
        if self._exit is None:
            self._exit = (code, message)

    def poll(self, step: int | None) -> TrainerExit | None:
        if self._exit is None:
            return None
        code, message = self._exit
        if code == FINISHED:
            return TrainerExit(outcome="finished", code=code, message=message, step=step)
        if code == DRAINED:
            return TrainerExit(outcome="drained", code=code, message=message, step=step)
        return TrainerExit(outcome="failed", code=code, message=message, step=step)

    @property
    def busy_percent(self) -> float | None:
        return None if self._gang is None else self._gang.busy_percent


class SimulatedSampler:
    """How busy the workers are."""

    source: Literal["nvml", "cpu"] = "cpu"

    def __init__(self, workers: Callable[[], SimulatedWorkers | None]) -> None:
        self._workers = workers

    def sample(self) -> float | None:
        workers = self._workers()
        return None if workers is None else workers.busy_percent


class SimulatedTask:
    """Work in the background of an agent."""

    def __init__(self, process: Process, work: Work) -> None:
        self.done = False
        self.crashed = False
        self._alarm = Alarm()
        self._woken = False
        self._process = process
        self._work = work
        process.start(self._run)

    def wake(self) -> None:
        self._woken = True
        self._alarm.wake()

    def join(self, timeout_s: float) -> None:  # noqa: ARG002 - turns look whether it is done
        return

    def _run(self) -> None:
        while (pause_s := self._work()) is not None:
            if pause_s and not self._woken:
                self._process.sleep(pause_s, self._alarm)
            self._woken = False
        self.done = True


class SimulatedMachine:
    """The machine under one agent (`orchestrator.agent.equipment.Equipment`)."""

    look_every_s = glance_every_s = LOOK_EVERY_S

    def __init__(self, process: Process, instance: Instance, gang_for: GangFor) -> None:
        self.full_until_s = 0.0
        self._process = process
        self._timeline = process.timeline
        self._instance = instance
        self._gang_for = gang_for
        self._launchers: list[SimulatedWorkers] = []

    @property
    def background(self) -> "SimulatedMachine":
        return self

    def start(self, work: Work, name: str, *, nice: bool = False) -> SimulatedTask:  # noqa: ARG002
        return SimulatedTask(self._process, work)

    def now(self) -> datetime:
        return self._process.now()

    def monotonic(self) -> float:
        return self._process.monotonic()

    def age_s(self) -> float:
        return self._timeline.now_s - self._instance.launched_s

    def launcher(self) -> SimulatedWorkers:
        workers = SimulatedWorkers(self._timeline, self._gang_for, self._timeline.now_s + WARM_AFTER_S)
        self._launchers.append(workers)
        return workers

    def run_directory(self, generation: int) -> SimulatedRun:
        return SimulatedRun(self._timeline, generation, lambda: self.full_until_s)

    def images(self, asker: Asker) -> "SimulatedMachine":  # noqa: ARG002
        return self

    def localized(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """Simulated jobs train on images that are there."""
        return dict(training)

    def sampler(self, pids: Callable[[], Sequence[int]]) -> SimulatedSampler:  # noqa: ARG002
        return SimulatedSampler(
            lambda: next((w for w in reversed(self._launchers) if w.busy_percent is not None), None)
        )

    def free_port(self) -> int:
        return 29500

    def power_off(self) -> None:
        """Everything on it ends at once."""
        for workers in self._launchers:
            workers.kill()


class SimulatedAgent:
    """An instance that has booted: the machine, and the real supervisor in a process on it."""

    def __init__(
        self,
        instance: Instance,
        cloud: Cloud,
        view: Callable[[Process], BucketView],
        faults: Faults,
        story: Story,
        nonce: Nonce,
        gang_for: GangFor,
        pace: Pace,
        skew_s: float,
    ) -> None:
        self.process = Process(cloud.timeline, instance.name, skew_s)
        self.machine = SimulatedMachine(self.process, instance, gang_for)
        self.store = view(self.process)
        self.instance = instance
        self._cloud, self._faults, self._story = cloud, faults, story
        self._nonce, self._pace = nonce, pace
        self._supervisor: Supervisor | None = None
        instance.end = self._ended
        instance.notice = self._noticed
        self.process.at_death = self._process_died
        self.process.start(self._live)

    def _live(self) -> None:
        request = self.instance.request
        place = Place(
            instance=request.instance,
            job=request.job,
            workers=request.workers,
            cores=request.workers * request.cores_per_worker,
            gpus=(),
            idle_exit_s=IDLE_EXIT_S,
            instance_id=f"i-{request.instance}",
            allowance_s=request.allowance_s,
        )
        log = lambda text: self._story.tell(self.process.name, "agent: {}", text)  # noqa: E731
        self._supervisor = Supervisor(self.store, place, self.machine, self._nonce, log, self._pace)
        while (pause_s := self._supervisor.turn()) is not None:
            if self._supervisor.allowance_s != self.instance.allowance_s:
                self._cloud.set_allowance(self.instance, self._supervisor.allowance_s)
            self.process.sleep(max(pause_s, TURN_AT_LEAST_S))
        self._cloud.end(self.instance, "its agent has left, and shutdown means terminate")

    def _noticed(self) -> None:
        if self._supervisor is not None:
            self._supervisor.taken_away("terminate", self.process.now() + timedelta(seconds=NOTICE_S), NOTICE_S)

    def _ended(self, _why: str) -> None:
        self.machine.power_off()
        self.process.die()

    def _process_died(self) -> None:
        """Its workers die with the agent; the machine goes on for a moment."""
        self.machine.power_off()
        if self.instance.live:
            self._story.fault(self.process.name, "the agent has died")
            self._cloud.agent_died(self.instance)
