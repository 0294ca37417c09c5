"""What the charts of a job show, all over the same time: so that what a resize did is seen in each. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from statistics import fmean

from orchestrator.dashboard.job_row import Shown
from orchestrator.jobs.bucket import JobState
from orchestrator.jobs.events import Event, EventKind
from orchestrator.reading.meanings import TRAINING_ENDS, Meaning, meaning_of

MOST_POINTS = 240
"""More than that are not told apart on a screen."""

Points = Sequence[tuple[float, float]]

_MARKED = {
    EventKind.SCALE_UP,
    EventKind.SCALE_DOWN,
    EventKind.RESIZE,
    EventKind.PREEMPTION_NOTICE,
    EventKind.INSTANCE_LOST,
    EventKind.WORKER_FAILED,
}
"""What changes a job's size, or interrupts it."""


class Curve(Shown):
    """One line of a chart: seconds since the job was submitted, and values."""

    name: str
    points: list[tuple[float, float]]


class Chart(Shown):
    """Curves of one unit."""

    title: str
    unit: str
    curves: list[Curve]
    low: float | None = None
    high: float | None = None
    """Ends of the axis; None: as the values have it."""
    band: tuple[float, float] | None = None
    """Between these a job keeps its size."""
    steps: bool = False
    """Whether a value holds until the next one."""


class Mark(Shown):
    """A moment that every chart shows."""

    at_s: float
    meaning: Meaning
    words: str


class Charts(Shown):
    """All charts of a job."""

    begin: datetime
    end_s: float
    size: Chart
    charts: list[Chart]
    marks: list[Mark]


def charts(
    state: JobState, events: Sequence[Event], progress: Mapping[str, Points], busy: Points, now: datetime
) -> Charts:
    """Put together what is known."""
    begin = state.record.created_at
    end_s = round(((state.record.ended_at or now) - begin).total_seconds(), 1)

    def curves(scale: float = 1.0, **fields: str) -> list[Curve]:
        found = {name: progress.get(field, ()) for field, name in fields.items()}
        return [_curve(name, points, begin, scale) for name, points in found.items() if points]

    accuracies = curves(100.0, student_accuracy="student", teacher_accuracy="teacher", accuracy="accuracy")
    losses = curves(loss="total", class_loss="class", consistency_loss="consistency")
    scaling = state.spec.scaling
    images = "images/s" if state.spec.training is not None else "samples/s"
    return Charts(
        begin=begin,
        end_s=end_s,
        size=Chart(title="Workers", unit="", low=0.0, steps=True, curves=[_sizes(state, events, end_s)]),
        charts=[
            Chart(title="Accuracy", unit="%", high=100.0, curves=accuracies),
            Chart(title="Loss", unit="", low=0.0, curves=losses),
            Chart(
                title="Utilisation",
                unit="%",
                low=0.0,
                high=100.0,
                band=(scaling.down_below, scaling.up_above),
                curves=[_curve("mean of the workers", busy, begin)] if busy else [],
            ),
            Chart(title="Speed", unit=images, low=0.0, curves=curves(samples_per_second="all workers")),
        ],
        marks=[
            Mark(at_s=_since(event, begin), meaning=meaning_of(event.kind), words=str(event.kind).replace("_", " "))
            for event in events
            if event.kind in _MARKED
        ],
    )


def thinned(points: Points) -> list[tuple[float, float]]:
    """No more than can be told apart: the means of neighbours, and the last as it is."""
    if len(points) <= MOST_POINTS:
        return [*points]
    every = -(-len(points) // MOST_POINTS)
    groups = (points[start : start + every] for start in range(0, len(points) - 1, every))
    return [*((fmean(at for at, _ in group), fmean(value for _, value in group)) for group in groups), points[-1]]


def _curve(name: str, points: Points, begin: datetime, scale: float = 1.0) -> Curve:
    zero_s = begin.timestamp()
    return Curve(name=name, points=[(round(at - zero_s, 1), _rounded(scale * v)) for at, v in thinned(sorted(points))])


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _sizes(state: JobState, events: Sequence[Event], end_s: float) -> Curve:
    points = [*_size_changes(state, events)]
    if points:
        points.append((end_s, points[-1][1]))
    return Curve(name="workers", points=points)


def _size_changes(state: JobState, events: Sequence[Event]) -> Iterator[tuple[float, float]]:
    ladder, running = state.spec.resources.ladder, None
    for event in events:
        at_s = _since(event, state.record.created_at)
        if event.kind is EventKind.STARTING and isinstance(event.inputs.get("rung"), int):
            running = event.generation
            yield at_s, float(ladder[event.inputs["rung"]].world_size)
        elif event.kind in TRAINING_ENDS and running is not None and event.generation == running:
            running = None
            yield at_s, 0.0


def _since(event: Event, begin: datetime) -> float:
    return round((event.at - begin).total_seconds(), 1)
