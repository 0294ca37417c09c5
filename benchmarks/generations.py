"""How long a job stands still: From submit to the first step, after a worker was killed, at a resize.

One job goes through all three, as a user's would: a cold start, with the controller to be started too; a SIGKILL to its
only worker; a resize from one worker to two. The times are those in the job's events, those that the trainer writes
into its progress lines, and those at which the kernel started a process: all of one clock.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import Figure, Findings, Target, across
from benchmarks.place import DEMO, Place, until
from orchestrator.jobs.events import EventKind
from orchestrator.store.owner import start_of

JOB = "digits"
ENDLESS = ("training.epochs=null", "training.steps=100000", "scaling.window=10m", "checkpoint.every=5s")
"""The demo, but it does not end by itself, nor resize itself."""

Parts = list[tuple[str, float]]


@dataclass(frozen=True)
class Start:
    """The way of one generation to its first step, in seconds since the epoch."""

    assigned_at: float
    """The controller decided that its workers start."""
    forked_at: float
    """The kernel started the last of its workers."""
    ready_at: float
    """The leading worker had imported, built and resumed, and opened its progress file."""
    stepped_at: float
    """It reported its first step."""

    def parts(self, until_forked: str = "agent restores the checkpoint, torchrun starts the workers") -> Parts:
        """Where the time went from the assignment on."""
        return [
            (until_forked, self.forked_at - self.assigned_at),
            (
                "workers load the data, build the networks, load the checkpoint",
                self.ready_at - self.forked_at,
            ),
            ("first step, to its report", self.stepped_at - self.ready_at),
        ]


@dataclass(frozen=True)
class Run:
    """The three standstills of one job."""

    submit: Parts
    kill: Parts
    drain: Parts
    redone_steps: int


def measure(runs: int, root: Path) -> Findings:
    """All three, several times, each time with everything anew."""
    done = []
    for number in range(runs):
        directory = root / f"generations-{number}"
        directory.mkdir()
        with Place.below(directory) as place:
            done.append(_run(place))
    submits, kills, drains = [run.submit for run in done], [run.kill for run in done], [run.drain for run in done]
    figures = (
        _total("submit, no controller running → first training step", 10, submits),
        _total("SIGKILL of a worker → first step of the next generation", 10, kills),
        _total("drain → first step of the next generation, from 1 worker to 2", 8, drains),
    )
    breakdowns = (
        across(submits, "From submit to the first step"),
        across(kills, "From the SIGKILL to the next step"),
        across(drains, "From the drain to the next step"),
    )
    redone = ", ".join(str(run.redone_steps) for run in done)
    remark = (
        f"After the SIGKILL training goes on from the last commit (checkpoints every 5 s): steps done again: {redone}."
    )
    return Findings(figures, breakdowns, (remark,))


def _total(name: str, limit_s: float, per_run: Sequence[Parts]) -> Figure:
    return Figure(name, "s", tuple(sum(seconds for _, seconds in parts) for parts in per_run), Target(at_most=limit_s))


def _run(place: Place) -> Run:
    asked_at = time.time()
    place.run("submit", str(DEMO), *(word for change in ENDLESS for word in ("--set", change)))
    first = _start(place, 1)
    submit = _submit_parts(place, asked_at, first)

    until(lambda: place.committed_step(JOB) > 0, "a committed checkpoint", place.story)
    reached = place.reports(1)[-1]["step"]
    killed_at = time.time()
    for rank in place.ranks():
        rank.kill()
    second = _start(place, 2)
    kill = [("agent sees it, controller seals and assigns", second.assigned_at - killed_at)]
    kill += second.parts("a new launcher imports torch, agent restores the checkpoint, torchrun starts the worker")
    redone_steps = max(0, reached - place.resume_step(JOB))

    place.run("resize", JOB, "--workers", "2")
    third = _start(place, 3)
    draining_at = _at(place, EventKind.DRAINING, 2)
    ended_at = _at(place, EventKind.GENERATION_ENDED, 2)
    drain = [
        ("workers finish their step, write a checkpoint and end; agent commits it", ended_at - draining_at),
        ("controller seals and assigns", third.assigned_at - ended_at),
        *third.parts(),
    ]
    return Run(submit, kill, drain, redone_steps)


def _submit_parts(place: Place, asked_at: float, start: Start) -> Parts:
    created_at = place.record(JOB).created_at.timestamp()
    provisioning_at = _at(place, EventKind.PROVISIONING, 1)
    return [
        ("`elastic submit` starts, reads job.yaml, tries the store, writes the job", created_at - asked_at),
        ("controller starts, takes the lease, launches an instance", provisioning_at - created_at),
        ("agent starts, its launcher imports torch; controller assigns", start.assigned_at - provisioning_at),
        *start.parts(),
    ]


def _start(place: Place, generation: int) -> Start:
    """Wait for a generation's first step, and see how it came to it."""

    def progress() -> Path | None:
        directory = place.run_directory(generation)
        return directory / "progress.jsonl" if directory and (directory / "progress.jsonl").exists() else None

    until(lambda: progress() is not None, f"generation {generation} is about to train", place.story)
    ready_at = time.time()
    first: dict[str, Any] = place.first_report(generation)
    return Start(
        assigned_at=_at(place, EventKind.STARTING, generation),
        forked_at=max(_started_at(rank) for rank in place.ranks()),
        ready_at=ready_at,
        stepped_at=datetime.fromisoformat(first["time"]).timestamp(),
    )


def _at(place: Place, kind: EventKind, generation: int) -> float:
    return place.event(JOB, kind, generation).at.timestamp()


def _started_at(process: psutil.Process) -> float:
    """When the kernel started a process. psutil's own answer is rounded to the second of the boot."""
    started = start_of(process.pid)
    if started is None:
        raise psutil.NoSuchProcess(process.pid)
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - started)
