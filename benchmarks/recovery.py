"""How long a job on EC2 does not train when an instance is taken from it, or when it moves to others.

    python -m benchmarks.recovery [--runs 3] [--boot 0]

Everything is real but AWS itself (`elastic rehearse`): controller, agents started by their instances' user-data, the
Mean Teacher on digits, S3 by SeaweedFS, EC2 by moto. One job goes through all of it: its instance is taken back without
notice; the next one's with two minutes' notice; then it grows from one instance to two, which train on until the new
ones are ready (make before break).

What a machine of EC2 needs to boot is no figure of this program's: the time from a launch until its agent is ready is
given apart, and left out of what is held to the target. The times are those of the trainer's progress lines, the job's
events and the account's ledger, all of one clock.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.conditions import conditions
from benchmarks.figures import Breakdown, Figure, Findings, Target, as_markdown
from benchmarks.place import read_reports
from orchestrator.jobs.events import EventKind
from orchestrator.rehearsal.machine_room import NOTICE_S
from orchestrator.rehearsal.rehearsal import Conditions
from tests.rehearsal.rehearsed import EC2, Rehearsed, rehearsed
from tests.survival.system import TRAINING

BOUND_S = 15.0
ENDLESS = {**TRAINING, "steps": 1_000_000}

Part = tuple[str, Callable[["Gap"], float]]


@dataclass(frozen=True)
class Gap:
    """A time without training, by the clock of the machine."""

    stopped_at: float
    """The last step before it was reported, or the instance was taken."""
    launched_at: float
    """The first instance that the job went on with was launched."""
    assigned_at: float
    """The controller had its agents, and gave them their work."""
    stepped_at: float
    """The first step after it was reported."""

    @property
    def whole_s(self) -> float:
        return self.stepped_at - self.stopped_at

    @property
    def boot_s(self) -> float:
        """None of it is waited for where an instance was launched while the old ones trained."""
        return self.assigned_at - self.launched_at if self.launched_at > self.stopped_at else 0.0

    @property
    def without_boot_s(self) -> float:
        return self.whole_s - self.boot_s

    @property
    def to_launch_s(self) -> float:
        """With nothing to launch: until the order."""
        return self.assigned_at - self.stopped_at - self.boot_s


PARTS: tuple[Part, ...] = (
    (
        "checkpoint and commit if there is time; then the launch or, if that was before, the order",
        lambda gap: gap.to_launch_s,
    ),
    ("the instance boots, its agent starts and imports torch (left out)", lambda gap: gap.boot_s),
    ("from the order to the first step", lambda gap: gap.stepped_at - gap.assigned_at),
)


@dataclass(frozen=True)
class Stage:
    """A rehearsal, seen by its machines' disks."""

    cloud: Rehearsed
    root: Path

    def reports(self, generation: int) -> list[float]:
        """When a generation reported its steps, as far as they are there."""
        paths = self.root.glob(f"machines/*/elastic/*/run-g{generation:06d}/progress.jsonl")
        lines = [line for path in paths for line in read_reports(path) if line.get("loss") is not None]
        return sorted(datetime.fromisoformat(line["time"]).timestamp() for line in lines)

    def wait_for_steps(self, generation: int, committed_after: int) -> None:
        """Until it trains, and has committed what would be lost otherwise."""
        system = self.cloud.system
        system.wait(lambda: bool(self.reports(generation)), f"a step of generation {generation}", 180)
        system.wait(lambda: system.committed_step > committed_after, "a checkpoint", 180)

    def gap_before(self, generation: int, stopped_at: float | None) -> Gap:
        """Between a generation and the one before it; `stopped_at`: when its instance was taken."""
        system = self.cloud.system
        record = system.record.generation
        assert record is not None
        launches = [self.cloud.entry(instance).launched_at.timestamp() for instance in record.instances]
        [starting] = [event for event in system.events(EventKind.STARTING) if event.generation == generation]
        if stopped_at is None:
            stopped_at = self.reports(generation - 1)[-1]
        return Gap(stopped_at, min(launches), starting.at.timestamp(), self.reports(generation)[0])


def main() -> None:
    """Measure, and print the report."""
    parser = argparse.ArgumentParser(description="Interruption to the first new step, with and without a boot.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--boot", type=float, default=0.0, help="seconds that a machine boots")
    given = parser.parse_args()
    started_at, load_before = datetime.now(UTC), os.getloadavg()[0]
    runs = []
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory(prefix="elastic-recovery-") as root:
            runs.append(_run(Path(root).resolve(), given.boot))
    command = f"python -m benchmarks.recovery --runs {given.runs} --boot {given.boot:g}"
    print(as_markdown([_findings(runs)], conditions(command, started_at, load_before, given.runs)))


def _run(root: Path, boot_s: float) -> tuple[Gap, Gap, Gap]:
    """Without notice, with notice, and by make before break."""
    with rehearsed(root, Conditions(boot_s=boot_s)) as cloud:
        stage, system = Stage(cloud, root), cloud.system
        system.submit(training=ENDLESS, resources=EC2, scaling={"window": "10m"})
        stage.wait_for_steps(1, 0)

        taken_at = time.time()
        cloud.interrupt(_instance(cloud), 0)
        stage.wait_for_steps(2, system.committed_step)
        without_notice = stage.gap_before(2, taken_at)

        cloud.interrupt(_instance(cloud), NOTICE_S)
        stage.wait_for_steps(3, system.committed_step)
        with_notice = stage.gap_before(3, None)

        system.run("resize", "tiny", "--workers", "2", "--no-daemon")
        stage.wait_for_steps(4, system.committed_step)
        moved = stage.gap_before(4, None)
        system.run("cancel", "tiny", "--yes", "--no-daemon")
        cloud.require_all_ended(120)
    return without_notice, with_notice, moved


def _instance(cloud: Rehearsed) -> str:
    generation = cloud.system.record.generation
    assert generation is not None
    return generation.instances[0]


def _findings(runs: list[tuple[Gap, Gap, Gap]]) -> Findings:
    names = (
        "instance taken without notice → first new step, boot left out",
        "two minutes' notice: last step → first new step, boot left out",
        "make before break, 1 instance to 2: last step → first new step",
    )
    figures, breakdowns = [], []
    for name, gaps in zip(names, zip(*runs, strict=True), strict=True):
        figures.append(Figure(name, "s", tuple(gap.without_boot_s for gap in gaps), Target(at_most=BOUND_S)))
        parts = [Figure(part, "s", tuple(of(gap) for gap in gaps)) for part, of in PARTS]
        breakdowns.append(Breakdown(name, (*parts, Figure("all of it", "s", tuple(gap.whole_s for gap in gaps)))))
    return Findings(tuple(figures), tuple(breakdowns))


if __name__ == "__main__":
    main()
