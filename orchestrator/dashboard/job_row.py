"""A job in one line of the overview; its own page begins with the same."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from orchestrator.jobs.bucket import JobState
from orchestrator.jobs.events import Event
from orchestrator.jobs.status import JobStatus
from orchestrator.reading import text
from orchestrator.reading.meanings import Meaning, meaning_of
from orchestrator.reading.phase_words import phase_words


class Shown(BaseModel):
    """What goes to a page, as it is; times are for the browser, which knows the reader's time zone."""

    model_config = ConfigDict(frozen=True)


class ShownEvent(Shown):
    """Something that happened."""

    number: int
    at: datetime
    generation: int
    kind: str
    meaning: Meaning
    message: str

    @classmethod
    def of(cls, event: Event) -> "ShownEvent":
        """One event."""
        return cls(
            number=event.number,
            at=event.at,
            generation=event.generation,
            kind=str(event.kind).replace("_", " "),
            meaning=meaning_of(event.kind),
            message=event.message,
        )


class Busy(Shown):
    """How busy its workers are, beside the band in which it keeps its size."""

    percent: float | None
    words: str
    source: str
    down_below: float
    up_above: float


class JobRow(Shown):
    """What is known of a job at a glance."""

    name: str
    phase: str
    over: bool
    words: str
    """The phase, and what goes on within it."""
    reason: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    steps: str
    done: float | None
    """The share of its steps, 0 to 1; None: it does not say how many there are."""
    done_words: str
    eta: str
    accuracy: str
    size: str
    place: str
    busy: Busy
    spent: str
    usd_per_hour: str
    last_event: ShownEvent | None


def job_row(state: JobState, status: JobStatus, last: Event | None) -> JobRow:
    """A job in words."""
    done = None if status.total_steps is None else min(1.0, status.step / max(1, status.total_steps))
    teacher = status.metrics.teacher_accuracy
    known = (teacher, status.metrics.student_accuracy, status.metrics.accuracy)
    return JobRow(
        name=status.name,
        phase=str(status.phase),
        over=status.phase.over,
        words=phase_words(status),
        reason=status.reason,
        created_at=status.created_at,
        started_at=status.started_at,
        ended_at=status.ended_at,
        steps=f"{status.step:,}" + (f" of {status.total_steps:,}" if status.total_steps is not None else ""),
        done=None if done is None else round(done, 4),
        done_words=text.share(done, 0),
        eta=text.NOTHING if status.eta_s is None else text.duration(status.eta_s),
        accuracy=text.share(next((value for value in known if value is not None), None)),
        size=text.count(status.size.workers, "worker") if status.size else text.NOTHING,
        place=_place(state, status),
        busy=_busy(status),
        spent=text.usd(status.spend_usd),
        usd_per_hour=text.usd(status.usd_per_hour),
        last_event=None if last is None else ShownEvent.of(last),
    )


def _place(state: JobState, status: JobStatus) -> str:
    """Where it runs and how that was bought: '2 × g6.xlarge, spot'."""
    fleet = state.spec.resources.fleet
    if status.size is None:
        return fleet
    bought = sorted({use.market.replace("_", "-") for use in state.record.uses}) if fleet == "ec2" else [fleet]
    place = f"{status.size.count} × {status.size.instance}"
    return ", ".join([place, *(each for each in bought if each != status.size.instance)])


def _busy(status: JobStatus) -> Busy:
    percent = None if status.phase.over else status.utilization_percent
    return Busy(
        percent=percent,
        words=text.percent(percent),
        source=text.SOURCES.get(status.utilization_source or "", ""),
        down_below=status.down_below,
        up_above=status.up_above,
    )
