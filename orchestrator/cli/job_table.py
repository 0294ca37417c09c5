"""Jobs as a table."""

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from orchestrator.cli.fitted_table import Column, FittedTable
from orchestrator.cli.styles import PHASE_STYLES
from orchestrator.jobs.status import JobStatus
from orchestrator.reading import text
from orchestrator.reading.phase_words import phase_words


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


COLUMNS: tuple[Column[JobStatus], ...] = (
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
    Column("SPENT", lambda status, _: text.usd(status.spend_usd), numeric=True, spare=8),
    Column("AGE", lambda status, now: text.age(status.created_at, now), numeric=True, spare=4),
)
WIDE_COLUMNS: tuple[Column[JobStatus], ...] = (
    Column("ENDED", _ended, numeric=True),
    Column(
        "INSTANCE", lambda status, _: f"{status.size.count} × {status.size.instance}" if status.size else text.NOTHING
    ),
    Column("GEN", lambda status, _: str(status.generation), numeric=True),
    Column("RESIZES", lambda status, _: str(status.resizes), numeric=True),
    Column("BUCKET", lambda status, _: text.usd(status.bucket_usd), numeric=True),
    Column("LOST", lambda status, _: f"{status.lost_steps:,}", numeric=True),
    Column("REASON", lambda status, _: status.reason),
)


def job_table(statuses: Sequence[JobStatus], now: datetime, *, wide: bool) -> FittedTable[JobStatus]:
    """A line for each job."""
    return FittedTable(statuses, COLUMNS + (WIDE_COLUMNS if wide else ()), now)
