"""A running job as plain lines, where there is no terminal: a log that can be kept and searched."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from orchestrator.jobs.events import Event
from orchestrator.reading import text
from orchestrator.reading.following import Look
from orchestrator.reading.phase_words import phase_words

STATUS_EVERY_S = 5.0


class PlainView:
    """Prints every event as it comes, and in between how far the job is."""

    def __init__(self, say: Callable[[str], None], monotonic: Callable[[], float]) -> None:
        self._say = say
        self._monotonic = monotonic
        self._told_at_s: float | None = None
        self._told = ""
        self._was_missing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, look: Look, controller_missing: bool) -> None:
        """Print what is new."""
        for event in look.new_events:
            self._say(event_line(event))
        if controller_missing and not self._was_missing:
            self._say(
                "no controller is alive: nothing starts, grows or is repaired until one is started with: elastic daemon"
            )
        self._was_missing = controller_missing
        due = self._told_at_s is None or self._monotonic() - self._told_at_s >= STATUS_EVERY_S
        if due and not look.over:
            self._told_at_s = self._monotonic()
            line = status_line(look)
            if line != self._told:
                self._told = line
                self._say(f"{text.utc_time(look.at)}  {line}")

    def say(self, sentence: str) -> None:
        """A remark."""
        self._say(sentence)


def event_line(event: Event) -> str:
    """When, what and why."""
    return f"{text.utc_time(event.at)}  {event.kind}: {event.message}"


def status_line(look: Look) -> str:
    """How far the job is, in one line."""
    status, metrics = look.status, look.status.metrics
    parts = [phase_words(status)]
    if status.total_steps is not None:
        parts.append(
            f"step {status.step:,}/{status.total_steps:,} ({text.share(status.step / max(1, status.total_steps), 0)})"
        )
    if status.eta_s is not None:
        parts.append(f"ETA {text.duration(status.eta_s)}")
    if metrics.samples_per_second is not None:
        parts.append(text.speed(metrics.samples_per_second, own_program=look.spec.training is None))
    if metrics.loss is not None:
        parts.append(f"loss {text.number(metrics.loss)}")
    if metrics.accuracy is not None:
        parts.append(f"accuracy {text.share(metrics.accuracy)}")
    if metrics.student_accuracy is not None:
        parts.append(f"student {text.share(metrics.student_accuracy)}")
    if metrics.teacher_accuracy is not None:
        parts.append(f"teacher {text.share(metrics.teacher_accuracy)}")
    if status.utilization_percent is not None:
        source = text.SOURCES.get(status.utilization_source or "", "")
        parts.append(f"utilisation {text.percent(status.utilization_percent)} ({source})")
    if starved := text.starved(metrics.data_wait):
        parts.append(starved)
    if status.size is not None:
        parts.append(text.count(status.size.workers, "worker"))
    return ", ".join(parts)
