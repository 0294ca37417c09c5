"""Jobs as a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from orchestrator.cli import text
from orchestrator.cli.output import PIPED_WIDTH
from orchestrator.cli.styles import PHASE_STYLES, phase_words
from orchestrator.jobs.status import JobStatus


@dataclass(frozen=True)
class Column:
    """A column and what stands in it."""

    title: str
    cell: Callable[[JobStatus, datetime], str | Text]
    numeric: bool = False
    spare: int = 0
    """Where there is no room for all columns, those with the highest number go first; 0: never."""


def _phase(status: JobStatus, _: datetime) -> Text:
    return Text(phase_words(status), style=PHASE_STYLES[status.phase])


def _step(status: JobStatus, _: datetime) -> str:
    return f"{status.step:,}" + (f"/{status.total_steps:,}" if status.total_steps is not None else "")


def _done(status: JobStatus, _: datetime) -> str:
    return text.share(status.step / max(1, status.total_steps), 0) if status.total_steps is not None else text.NOTHING


def _accuracy(status: JobStatus, _: datetime) -> str:
    teacher = status.metrics.teacher_accuracy
    return text.share(teacher if teacher is not None else status.metrics.student_accuracy)


def _ended(status: JobStatus, now: datetime) -> str:
    return f"{text.age(status.ended_at, now)} ago" if status.ended_at else text.NOTHING


def _busy(status: JobStatus, _: datetime) -> str:
    return text.percent(None if status.phase.over else status.utilization_percent)


COLUMNS = (
    Column("NAME", lambda status, _: status.name),
    Column("PHASE", _phase),
    Column(
        "WORKERS", lambda status, _: str(status.size.workers) if status.size else text.NOTHING, numeric=True, spare=3
    ),
    Column("STEP", _step, numeric=True, spare=1),
    Column("DONE", _done, numeric=True, spare=7),
    Column("ACCURACY", _accuracy, numeric=True, spare=2),
    Column("BUSY", _busy, numeric=True, spare=5),
    Column("ETA", lambda status, _: text.duration(status.eta_s), numeric=True, spare=6),
    Column("AGE", lambda status, now: text.age(status.created_at, now), numeric=True, spare=4),
)
WIDE_COLUMNS = (
    Column("ENDED", _ended, numeric=True),
    Column(
        "INSTANCE", lambda status, _: f"{status.size.count} × {status.size.instance}" if status.size else text.NOTHING
    ),
    Column("GEN", lambda status, _: str(status.generation), numeric=True),
    Column("RESIZES", lambda status, _: str(status.resizes), numeric=True),
    Column("LOST", lambda status, _: f"{status.lost_steps:,}", numeric=True),
    Column("SPENT", lambda status, _: text.usd(status.spend_usd), numeric=True),
    Column("REASON", lambda status, _: status.reason),
)


class JobTable:
    """A line for each job; fitted to a narrow terminal by leaving out whole columns, for a cut name is of no use."""

    def __init__(self, statuses: Sequence[JobStatus], now: datetime, *, wide: bool) -> None:
        self._statuses = statuses
        self._now = now
        self._columns = COLUMNS + (WIDE_COLUMNS if wide else ())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = list(self._columns)
        spare = sorted((column for column in columns if column.spare), key=lambda column: column.spare)
        table = self._table(columns)
        unbounded = options.update(width=PIPED_WIDTH)
        while spare and console.measure(table, options=unbounded).maximum > options.max_width:
            columns.remove(spare.pop())
            table = self._table(columns)
        yield table

    def _table(self, columns: Sequence[Column]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black")
        for column in columns:
            table.add_column(column.title, justify="right" if column.numeric else "left", no_wrap=True)
        for status in self._statuses:
            table.add_row(*(column.cell(status, self._now) for column in columns))
        return table
