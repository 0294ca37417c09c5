"""Simulated training: the ranks of a generation, on a clock of their own, leaving what a trainer leaves.

The weights are a chain of hashes, one link a step. So a step that was left out, done twice, or resumed from the wrong
checkpoint shows in the last link, whatever else happened on the way.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.simulator.faults import Fault, Faults
from orchestrator.simulator.timeline import Timeline

START_S = 8.0
DRAIN_S = 3.0
PEER_LOST_S = (5.0, 40.0)
"""How long workers take to notice that one of them is gone."""
RESULT = "result.json"


def link(weights: str, step: int) -> str:
    """The weights after one more step."""
    return hashlib.md5(f"{weights}{step}".encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Course:
    """What a job's trainer does, as far as a simulation needs it."""

    steps: int
    steps_per_s: float
    """Of one worker; more workers are as much quicker."""
    report_every_s: float = 10.0
    utilization_percent: float = 50.0
    start_s: float = START_S


class Watcher(Protocol):
    """Who wants to know how training goes: the invariants."""

    def began(self, job: str, generation: int, step: int, weights: str) -> None: ...

    def reached(self, job: str, generation: int, step: int) -> None: ...

    def ended(self, job: str, generation: int, step: int, *, lost: bool) -> None: ...


@dataclass
class Disk:
    """What a generation's run directory holds on one instance."""

    full_until_s: float = 0.0
    resume: dict[str, bytes] = field(default_factory=dict)
    checkpoints: dict[int, dict[str, bytes]] = field(default_factory=dict)
    lines: list[bytes] = field(default_factory=list)
    printed: list[bytes] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the ranks were given."""


class Node(Protocol):
    """The workers on one instance, as those of the others meet them."""

    disk: Disk

    def exited(self, code: int, message: str) -> None:
        """The ranks here have ended."""
        ...


class Gang:
    """All ranks of one generation: they begin when all are there, step together, and end together."""

    def __init__(
        self,
        timeline: Timeline,
        faults: Faults,
        watcher: Watcher,
        course: Course,
        *,
        job: str,
        generation: int,
        nodes: int,
        workers: int,
        checkpoint_every_s: float,
    ) -> None:
        self._timeline, self._faults, self._watcher, self._course = timeline, faults, watcher, course
        self._job, self._generation = job, generation
        self._nodes_wanted = nodes
        self._steps_per_s = course.steps_per_s * nodes * workers
        self._checkpoint_every_s = checkpoint_every_s
        self.nodes: dict[int, Node] = {}
        self.step, self._weights = 0, ""
        self._progressed_s = self._written_s = 0.0
        self._written_step = -1
        self.running = self.over = self.stuck = False
        self._draining = False
        self._fails_at_s = self._sticks_at_s = float("inf")

    def join(self, rank: int, node: Node) -> None:
        """Another node's ranks are there."""
        self.nodes[rank] = node
        if len(self.nodes) == self._nodes_wanted:
            self._timeline.after(self._course.start_s, self._begin)

    def leave(self, rank: int) -> None:
        """A node's ranks were killed: the others notice, sooner or later."""
        self.nodes.pop(rank, None)
        if not self.over:
            self._end_training(lost=True)
            self._timeline.after(self._faults.chance.uniform(*PEER_LOST_S), lambda: self._all_exit(1, "a peer is gone"))

    def ask_to_drain(self) -> None:
        """A rank got SIGTERM: all finish the step, write a checkpoint and end."""
        if self._draining or self.stuck:
            return
        self._draining = True
        if self.running:
            self._timeline.after(DRAIN_S, self._drained)

    def stand_still(self) -> None:
        """From now on nothing goes on, for ever."""
        self._sticks_at_s = min(self._sticks_at_s, self._timeline.now_s)

    @property
    def busy_percent(self) -> float:
        return 0.0 if self.stuck or not self.running else self._course.utilization_percent

    def _begin(self) -> None:
        if self.over or len(self.nodes) < self._nodes_wanted:
            return
        leader = self.nodes[0].disk
        if "model.bin" in leader.resume:
            self.step = int(json.loads(leader.resume["loop.json"])["step"])
            self._weights = leader.resume["model.bin"].decode()
        self.running = True
        now_s = self._timeline.now_s
        self._progressed_s = self._written_s = now_s
        self._written_step = self.step
        self._watcher.began(self._job, self._generation, self.step, self._weights)
        if self._faults.comes(Fault.RANK_CRASH, 0.08):
            self._fails_at_s = now_s + self._faults.chance.expovariate(1 / 60.0)
        if self._faults.comes(Fault.RANK_STALL, 0.03):
            self._sticks_at_s = now_s + self._faults.chance.expovariate(1 / 60.0)
        if self._draining:
            self._timeline.after(DRAIN_S, self._drained)
        self._timeline.after(min(5.0, self._course.report_every_s), self._go_on)

    def _go_on(self) -> None:
        """Some seconds of training have passed."""
        if not self.running or self.over:
            return
        now_s = self._timeline.now_s
        if now_s >= self._sticks_at_s:
            self.stuck = True
            return
        if now_s >= self._fails_at_s:
            self._end_training(lost=True)
            self._all_exit(1, "rank 0 was killed by SIGSEGV")
            return
        self._advance(now_s)
        self._report()
        if self.step >= self._course.steps:
            self._write(final=True)
            self._end_training(lost=False)
            self._all_exit(0, "finished")
            return
        if now_s - self._written_s >= self._checkpoint_every_s:
            self._write(final=False)
        left_s = (self._course.steps - self.step) / self._steps_per_s
        pause_s = min(self._course.report_every_s, left_s, max(0.5, self._written_s + self._checkpoint_every_s - now_s))
        self._timeline.after(max(pause_s, 0.5), self._go_on)

    def _advance(self, now_s: float) -> None:
        steps = int((now_s - self._progressed_s) * self._steps_per_s + 1e-9)
        self._progressed_s += steps / self._steps_per_s
        for self.step in range(self.step + 1, min(self._course.steps, self.step + steps) + 1):  # noqa: B020
            self._weights = link(self._weights, self.step)
        self._watcher.reached(self._job, self._generation, self.step)

    def _report(self) -> None:
        line = json.dumps(
            {"step": self.step, "total_steps": self._course.steps, "samples_per_second": self._steps_per_s}
        )
        leader = self.nodes.get(0)
        if leader is not None:
            leader.disk.lines.append(line.encode() + b"\n")
            given = "" if leader.disk.printed else f", with {dict(leader.disk.environment)}"
            leader.disk.printed.append(f"step {self.step}{given}\n".encode())

    def _write(self, *, final: bool) -> None:
        """Write a checkpoint, unless the disk is full."""
        leader = self.nodes.get(0)
        if leader is None or (self._written_step == self.step and not final):
            return
        now_s = self._timeline.now_s
        if now_s < leader.disk.full_until_s and not final:
            return
        files = {"loop.json": json.dumps({"step": self.step}).encode(), "model.bin": self._weights.encode()}
        if final:
            files[RESULT] = json.dumps({"step": self.step, "weights": self._weights}).encode()
        leader.disk.checkpoints[self.step] = files
        self._written_s, self._written_step = now_s, self.step

    def _drained(self) -> None:
        if not self.running or self.over or self.stuck:
            return
        self._advance(self._timeline.now_s)
        self._report()
        is_final = self.step >= self._course.steps
        self._write(final=is_final)
        self._end_training(lost=False)
        self._all_exit(0 if is_final else 75, "finished" if is_final else "drained")

    def _end_training(self, *, lost: bool) -> None:
        if self.running and not self.over:
            if lost and not self.stuck and self._timeline.now_s < min(self._sticks_at_s, self._fails_at_s):
                self._advance(self._timeline.now_s)
            self._watcher.ended(self._job, self._generation, self.step, lost=lost)
        self.over = True
        self.running = False

    def _all_exit(self, code: int, message: str) -> None:
        nodes, self.nodes = self.nodes, {}
        for node in nodes.values():
            node.exited(code, message)


GangOf = Callable[[str, int], Gang | None]
