"""What became of a job: result, time, resizes, losses, cost, and what to type next."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.styles import PHASE_STYLES
from orchestrator.jobs.bucket import JobState
from orchestrator.jobs.events import Event, EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.status import JobStatus
from orchestrator.reading import text
from orchestrator.reading.meanings import TRAINING_ENDS
from trainer.config import TrainingConfig


@dataclass(frozen=True)
class Spent:
    """Where the time of a job went."""

    total_s: float
    first_step_s: float | None
    """From submit to the first training step; None: there was none."""
    training_s: float
    generations: int
    """How many have started."""

    @property
    def waiting_s(self) -> float:
        """Starting, resizing, recovering, paused: whatever was not training."""
        return max(0.0, self.total_s - self.training_s)


def time_spent(record: JobRecord, events: Iterable[Event], now: datetime) -> Spent:
    """Add up the stretches between the first step of each generation and its end, as the events tell them."""
    end = record.ended_at or now
    first: datetime | None = None
    since: datetime | None = None
    training_s, generations = 0.0, 0
    for event in events:
        generations += event.kind is EventKind.STARTING
        if event.kind is EventKind.TRAINING and since is None:
            since = event.at
            first = first or event.at
        elif event.kind in TRAINING_ENDS and since is not None:
            training_s += (event.at - since).total_seconds()
            since = None
    if since is not None:
        training_s += (end - since).total_seconds()
    return Spent(
        total_s=(end - record.created_at).total_seconds(),
        first_step_s=(first - record.created_at).total_seconds() if first else None,
        training_s=training_s,
        generations=generations,
    )


def summary(state: JobState, status: JobStatus, spent: Spent) -> RenderableType:
    """The end of the story, for a person."""
    style = PHASE_STYLES[status.phase]
    mark = {JobPhase.SUCCEEDED: "✔", JobPhase.FAILED: "✘"}.get(status.phase, "●")
    headline = Text.assemble((f"{mark} {status.name} {status.phase}", f"bold {style}"))
    if status.phase is not JobPhase.SUCCEEDED:
        headline.append(f": {status.reason}")
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="bright_black", no_wrap=True)
    rows.add_column(overflow="fold")
    rows.add_row("  result", _result(state, status))
    rows.add_row("  time", _time(spent))
    rows.add_row("  size", _size(state, status, spent))
    steps = f"{status.step:,}" + (f" of {status.total_steps:,}" if status.total_steps is not None else "")
    rows.add_row("  steps", f"{steps}, {status.lost_steps:,} lost")
    rows.add_row("  spent", text.usd(status.spend_usd))
    return Group(headline, rows)


def _result(state: JobState, status: JobStatus) -> Text:
    metrics = status.metrics
    if state.spec.training is None:
        return _own_result(status)
    if metrics.student_accuracy is None and metrics.teacher_accuracy is None:
        return Text("no accuracy was measured")
    parts = Text()
    if metrics.teacher_accuracy is not None:
        parts.append("teacher ").append(text.share(metrics.teacher_accuracy), style="bold green").append("   ")
    parts.append("student ").append(text.share(metrics.student_accuracy), style="bold")
    return parts.append(f"   (test images, {_labels(state.spec.training)})")


def _own_result(status: JobStatus) -> Text:
    """What a program of one's own has said last, as far as it said anything, and what it has left."""
    metrics = status.metrics
    said = [f"accuracy {text.share(metrics.accuracy)}"] if metrics.accuracy is not None else []
    said += [f"loss {text.number(metrics.loss)}"] if metrics.loss is not None else []
    kept = f"checkpoint of step {status.committed_step:,}" if status.checkpoint else "no checkpoint"
    return Text("   ").join([*(Text(each, style="bold") for each in said), Text(kept)])


def _labels(training: TrainingConfig) -> str:
    if training.facts is not None:
        return text.count(training.label_count(training.facts), "label")
    return text.count(training.labels, "label") if isinstance(training.labels, int) else f"{training.labels} labelled"


def _time(spent: Spent) -> str:
    if spent.first_step_s is None:
        return f"{text.duration(spent.total_s)}, no step was made"
    parts = f"{text.duration(spent.training_s)} training, {text.duration(spent.waiting_s)} waiting"
    return f"{text.duration(spent.total_s)}: {parts} (first step after {text.duration(spent.first_step_s)})"


def _size(state: JobState, status: JobStatus, spent: Spent) -> str:
    generation = state.record.generation
    parts = [
        text.count(status.resizes, "resize"),
        text.count(spent.generations, "generation"),
    ]
    if generation is not None:
        parts.append(f"{text.count(state.spec.resources.ladder[generation.rung].world_size, 'worker')} at the end")
    return ", ".join(parts)
