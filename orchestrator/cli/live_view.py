"""The picture of a running job on a terminal: redrawn in place, with its events scrolling by above.

`picture` makes it from values, at any width; `LiveView` keeps it on the screen.
"""

from types import TracebackType
from typing import Self

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from orchestrator.cli.bars import (
    band_style,
    band_words,
    progress_bar,
    sparkline,
    utilization_bar,
    utilization_scale,
)
from orchestrator.cli.styles import EVENT_STYLES, PHASE_STYLES
from orchestrator.jobs.events import Event
from orchestrator.reading import text
from orchestrator.reading.following import Look
from orchestrator.reading.phase_words import phase_words

LABEL_WIDTH = 12
LONGEST_BAR = 60
ROOM_FOR_CTRL_C = 2
"""Terminals echo ^C where the cursor is: at the right edge it would wrap, and the picture could not be taken away."""
SILENT_AFTER_S = 10.0
_FRAME_WIDTH = 4 + LABEL_WIDTH
_SPARK_SAMPLES = 20
_SPARK_FROM_WIDTH = 100


class LiveView:
    """Shows looks at a job on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # No thread of its own: what is shown changes only when there is a new look.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, look: Look, controller_missing: bool) -> None:
        """Print what happened since the last look, and redraw the picture."""
        for event in look.new_events:
            self._console.print(event_line(event, look))
        width = self._console.width - ROOM_FOR_CTRL_C
        self._live.update(picture(look, width, controller_missing), refresh=True)

    def say(self, sentence: str) -> None:
        """A remark, above the picture."""
        self._console.print(Text(sentence, style="yellow"))


def event_line(event: Event, look: Look) -> RenderableType:
    """When, what and why; a long reason goes on under its beginning."""
    line = Table.grid(padding=(0, 2))
    line.add_column(no_wrap=True, style="bright_black")
    line.add_column(no_wrap=True, width=18)
    line.add_column(overflow="fold")
    kind = Text(event.kind.replace("_", " "), style=EVENT_STYLES.get(event.kind, ""))
    line.add_row(text.local_time(event.at, look.at), kind, Text(event.message))
    return line


def picture(look: Look, width: int, controller_missing: bool = False) -> RenderableType:
    """The whole state of a job in a frame."""
    status = look.status
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column(width=LABEL_WIDTH - 1, style="bright_black", no_wrap=True)
    rows.add_column(overflow="fold")
    room = width - _FRAME_WIDTH
    rows.add_row("progress", _progress(look, room))
    rows.add_row("accuracy", _accuracy(look))
    rows.add_row("loss", _loss(look))
    rows.add_row("utilisation", _utilization(look, room))
    rows.add_row("ladder", _ladder(look))
    rows.add_row("checkpoint", _kept(look))
    for warning in _warnings(look, controller_missing):
        rows.add_row("", Text(warning, style="yellow"))
    style = PHASE_STYLES[status.phase]
    title = Text.assemble(" ", (status.name, "bold"), "  ", (f"● {phase_words(status)}", style), " ")
    elapsed = text.duration((look.at - status.created_at).total_seconds())
    subtitle = Text(f" {elapsed} · Ctrl-C detaches, the job goes on ", style="bright_black")
    speed = status.metrics.samples_per_second
    reason = Text(status.reason, style="italic", overflow="ellipsis", no_wrap=True)
    if speed and status.eta_s is not None:
        reason.append(f", {text.speed(speed, own_program=look.spec.training is None)}")
    return Panel(
        Group(reason, Text(), rows),
        box=ROUNDED,
        title=title,
        title_align="left",
        subtitle=subtitle,
        subtitle_align="right",
        border_style=style,
        padding=(0, 1),
        width=width,
    )


def _bar_width(room: int, beside: int) -> int:
    return max(10, min(LONGEST_BAR, room - beside))


def _progress(look: Look, room: int) -> Text:
    status = look.status
    if status.total_steps is None:
        return Text(f"step {status.step:,}" if status.step else "no step yet")
    done = status.step / max(1, status.total_steps)
    words = [f"{status.step:,}/{status.total_steps:,}", text.share(done, 0)]
    if status.eta_s is not None:
        words.append(f"ETA {text.duration(status.eta_s)}")
    return progress_bar(done, _bar_width(room, 34)).append("  ").append("  ".join(words), style="bold")


def _accuracy(look: Look) -> Text:
    metrics = look.status.metrics
    if metrics.accuracy is not None:
        return Text(text.share(metrics.accuracy), style="bold")
    if metrics.student_accuracy is None and metrics.teacher_accuracy is None:
        return Text("not measured yet", style="bright_black")
    line = Text.assemble("student ", (text.share(metrics.student_accuracy), "bold"))
    if _has_teacher(look):
        line.append("   teacher ").append(text.share(metrics.teacher_accuracy), style="bold green")
    return line


def _has_teacher(look: Look) -> bool:
    return look.spec.training is not None and look.spec.training.method == "mean_teacher"


def _loss(look: Look) -> Text:
    metrics = look.status.metrics
    if metrics.loss is None:
        return Text(text.NOTHING, style="bright_black")
    line = Text.assemble((text.number(metrics.loss), "bold"))
    if _has_teacher(look):
        line.append(f"   class {text.number(metrics.class_loss)}")
        line.append(
            f"   consistency {text.number(metrics.consistency_loss)} × {text.number(metrics.consistency_weight)}"
        )
    return line


def _utilization(look: Look, room: int) -> Text:
    status = look.status
    limits = (status.down_below, status.up_above)
    value = status.utilization_percent
    bar_width = _bar_width(room, 34)
    line = utilization_bar(value, *limits, bar_width)
    line.append(f"  {text.percent(value)}", style=f"bold {band_style(value, *limits)}")
    if status.utilization_source is not None:
        line.append(f" {text.SOURCES[status.utilization_source]}")
    line.append(f", {band_words(value, *limits)}" if value is not None else " not measured yet", style="bright_black")
    line.append("\n").append(utilization_scale(*limits, bar_width))
    samples = _samples(look)
    if samples and room + _FRAME_WIDTH >= _SPARK_FROM_WIDTH:
        line.append(f"  {sparkline(samples)}", style=band_style(value, *limits))
        line.append(f" last {len(samples)} s", style="bright_black")
    return line


def _samples(look: Look) -> list[float]:
    """The last seconds of utilisation, mean over the instances of the generation."""
    generation = look.state.record.generation
    beats = look.state.heartbeats.values()
    series = [
        beat.utilization.percents[-_SPARK_SAMPLES:]
        for beat in beats
        if generation and beat.utilization and beat.generation == generation.number
    ]
    return [sum(second) / len(second) for second in zip(*series, strict=False)] if series else []


def _ladder(look: Look) -> Text:
    """All rungs, the present one marked, an upcoming one too: 1 ─ [2] ─ 4 workers."""
    status, record = look.status, look.state.record
    coming = record.upcoming.rung if record.upcoming and record.generation else None
    line = Text()
    for i, rung in enumerate(look.spec.resources.ladder):
        size = str(rung.world_size) if rung.instance == "local" else f"{rung.count} × {rung.instance}"
        line.append(" ─ " if i else "", style="bright_black")
        if status.size is not None and i == status.size.rung:
            line.append(f"[{size}]", style="bold cyan")
        elif i == coming:
            line.append(f"→{size}", style="bold yellow")
        else:
            line.append(size, style="" if i in look.spec.allowed_rungs else "bright_black")
    line.append(" workers" if all(r.instance == "local" for r in look.spec.resources.ladder) else "")
    line.append(f"   generation {status.generation}")
    if status.upcoming_generation and status.upcoming_generation != status.generation:
        line.append(f", {status.upcoming_generation} coming", style="yellow")
    line.append(f"   {text.count(status.resizes, 'resize')}")
    return line


def _kept(look: Look) -> Text:
    """What an interruption now would leave, what was lost, what it cost."""
    status = look.status
    safe = f"at step {status.committed_step:,}" if status.checkpoint else "none yet"
    return Text(f"{safe}   {text.count(status.lost_steps, 'step')} lost   spent {text.usd(status.spend_usd)}")


def _warnings(look: Look, controller_missing: bool) -> list[str]:
    warnings = []
    if controller_missing:
        warnings.append(
            "no controller is alive: nothing starts, grows or is repaired until one is started with: elastic daemon"
        )
    if look.silent_s is not None and look.silent_s > SILENT_AFTER_S:
        warnings.append(f"no word from the instances for {text.duration(look.silent_s)}")
    if starved := text.starved(look.status.metrics.data_wait):
        warnings.append(f"{starved}: more loading.workers or a faster disk would help")
    return warnings
