"""One job on one page."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.event_table import event_table
from orchestrator.cli.styles import PHASE_STYLES
from orchestrator.jobs.bucket import JobState
from orchestrator.jobs.events import Event
from orchestrator.jobs.status import JobStatus
from orchestrator.reading import text
from orchestrator.reading.job_facts import facts, wide_facts
from orchestrator.reading.phase_words import phase_words


def job_sheet(
    state: JobState, status: JobStatus, recent: Sequence[Event], now: datetime, *, wide: bool
) -> RenderableType:
    """Facts in groups, then what happened last."""
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="bright_black", no_wrap=True)
    rows.add_column(overflow="fold")
    phase = Text.assemble((phase_words(status), f"bold {PHASE_STYLES[status.phase]}"), f"  {status.reason}")
    rows.add_row("phase", phase)
    more = wide_facts(state, status) if wide else ()
    for label, value in (*facts(state, status), ("times", _times(status, now)), *more):
        rows.add_row(label, value)
    parts: list[RenderableType] = [Text(status.name, style="bold"), rows]
    if recent:
        parts += [Text(), Text("last events", style="bright_black"), event_table(recent, now, wide=False)]
    return Group(*parts)


def _times(status: JobStatus, now: datetime) -> str:
    parts = [f"submitted {text.local_time(status.created_at, now)}"]
    if status.started_at is not None:
        parts.append(f"started {text.local_time(status.started_at, now)}")
    if status.ended_at is not None:
        parts.append(f"ended {text.local_time(status.ended_at, now)}")
    total_s = ((status.ended_at or now) - status.created_at).total_seconds()
    return f"{', '.join(parts)}; {text.duration(total_s)} in all"
