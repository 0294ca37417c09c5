"""What containers cost: how much later the first step comes, and how much longer a drain takes, than with processes.

    docker build -f docker/trainer.Dockerfile -t elastic/trainer:local .
    python -m benchmarks.containers --image elastic/trainer:local [--runs 3]

The demo's job, on one worker and then on two by hand, in turn with containers and with processes that use the image's
own libraries, taken out of it. The image is on the machine already: pulling it is no figure of this program's. The
times are those of the job's events and of the trainer's progress lines, all of one clock.
"""

import argparse
import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.conditions import conditions
from benchmarks.figures import Breakdown, Figure, Findings, Target, as_markdown
from benchmarks.generations import ENDLESS, JOB
from benchmarks.place import DEMO, Place, Vain, until
from orchestrator.jobs.events import EventKind

START_AT_MOST_S = 3.0
"""How much later than in a process a container's first step may come."""
DRAIN_AT_MOST_S = 1.0
PACKAGES = "/opt/elastic/lib/python3.11/site-packages"
"""Where the trainer's image has its libraries."""


@dataclass(frozen=True)
class Run:
    """The times of one job, in seconds."""

    first: float
    """A launch is decided → the first step on one worker."""
    drain: float
    """A drain is decided → the workers have ended, and their checkpoint is committed."""
    second: float
    """It is decided that two workers start → their first step."""


NAMES = {
    "first": "launch decided → first step, 1 worker",
    "drain": "drain decided → workers have ended, checkpoint committed",
    "second": "start of 2 workers decided → their first step",
}


def main() -> None:
    """Measure, and print the report."""
    parser = argparse.ArgumentParser(description="Containers against processes: decision to first step, and drain.")
    parser.add_argument("--image", required=True, help="built by docker/trainer.Dockerfile")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    started_at, load_before = datetime.now(UTC), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="elastic-containers-") as name:
        root = Path(name).resolve()
        libraries = _take_libraries(given.image, root)
        _run(root / "warm-containers", given.image)
        _with(libraries, root / "warm-processes")
        contained, in_processes = [], []
        for number in range(given.runs):
            contained.append(_run(root / f"containers-{number}", given.image))
            in_processes.append(_with(libraries, root / f"processes-{number}"))
    command = f"python -m benchmarks.containers --image {given.image} --runs {given.runs}"
    print(as_markdown([_findings(contained, in_processes)], _conditions(command, started_at, load_before, given.runs)))


def _take_libraries(image: str, root: Path) -> Path:
    """What the image has installed, in a directory."""

    def docker(*arguments: str) -> str:
        return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    container = docker("create", image)
    try:
        docker("cp", f"{container}:{PACKAGES}", str(root))
    finally:
        docker("rm", container)
    return root / Path(PACKAGES).name


def _with(libraries: Path, root: Path) -> Run:
    """With processes, which use these libraries."""
    os.environ["PYTHONPATH"] = str(libraries)
    try:
        return _run(root, None)
    finally:
        del os.environ["PYTHONPATH"]


def _run(root: Path, image: str | None) -> Run:
    root.mkdir()
    with Place.below(root) as place, _until_all_is_over(place):
        changes = [*ENDLESS, *([f"resources.image={image}"] if image else [])]
        place.run("submit", str(DEMO), *(word for change in changes for word in ("--set", change)))
        first_s = _first_step_at(place, 1) - _at(place, EventKind.PROVISIONING, 1)  # the next one's is told under 1 too
        until(lambda: place.committed_step(JOB) > 0, "a committed checkpoint", place.story)
        place.run("resize", JOB, "--workers", "2")
        second_step_at = _first_step_at(place, 2)
        return Run(
            first=first_s,
            drain=_at(place, EventKind.GENERATION_ENDED, 1) - _at(place, EventKind.DRAINING, 1),
            second=second_step_at - _at(place, EventKind.STARTING, 2),
        )


@contextlib.contextmanager
def _until_all_is_over(place: Place) -> Iterator[None]:
    """Cancel what runs at the end, so that containers are removed by whoever has made them."""
    try:
        yield
    finally:
        place.cancel_all()
        with contextlib.suppress(Vain):  # what is left is ended by force
            until(place.all_over, "the job is cancelled", place.story)


def _first_step_at(place: Place, generation: int) -> float:
    return datetime.fromisoformat(place.first_report(generation)["time"]).timestamp()


def _at(place: Place, kind: EventKind, generation: int) -> float:
    return place.event(JOB, kind, generation).at.timestamp()


def _findings(contained: list[Run], in_processes: list[Run]) -> Findings:
    figures, breakdowns = [], []
    for field in fields(Run):
        each = {
            "in containers": tuple(getattr(run, field.name) for run in contained),
            "in processes": tuple(getattr(run, field.name) for run in in_processes),
        }
        more = tuple(a - b for a, b in zip(*each.values(), strict=True))
        target = Target(at_most=DRAIN_AT_MOST_S if field.name == "drain" else START_AT_MOST_S)
        figures.append(Figure(f"{NAMES[field.name]}: containers take longer by", "s", more, target))
        breakdowns.append(
            Breakdown(NAMES[field.name], tuple(Figure(name, "s", values) for name, values in each.items()))
        )
    return Findings(tuple(figures), tuple(breakdowns))


def _conditions(command: str, started_at: datetime, load_before: float, runs: int) -> Iterator[tuple[str, str]]:
    yield from conditions(command, started_at, load_before, runs)
    engine = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], check=True, capture_output=True, text=True
    )
    yield "engine", f"Docker {engine.stdout.strip()}"


if __name__ == "__main__":
    main()
