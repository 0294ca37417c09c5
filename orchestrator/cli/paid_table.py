"""Instances that cost money, as a table."""

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from orchestrator.cli.fitted_table import Column, FittedTable
from orchestrator.reading import text
from orchestrator.reading.paid_instances import ORPHAN, PaidInstance

_STYLES = {ORPHAN: "red", "running": "cyan", "ending": "bright_black"}


def _money(amount: float | None) -> str:
    return text.NOTHING if amount is None else text.usd(amount)


COLUMNS: tuple[Column[PaidInstance], ...] = (
    Column("INSTANCE", lambda row, _: row.instance),
    Column("JOB", lambda row, _: row.job or text.NOTHING, spare=4),
    Column("STATE", lambda row, _: Text(row.state, style=_STYLES.get(row.state, "yellow"))),
    Column("TYPE", lambda row, _: row.instance_type or text.NOTHING, spare=1),
    Column("MARKET", lambda row, _: row.market.replace("_", "-"), spare=5),
    Column("ZONE", lambda row, _: row.zone or text.NOTHING, spare=6),
    Column("$/HOUR", lambda row, _: _money(row.usd_per_hour), numeric=True),
    Column("AGE", lambda row, _: text.duration(row.lived_s), numeric=True, spare=2),
    Column("COST", lambda row, _: _money(row.cost_usd), numeric=True),
    Column("LEFT", lambda row, _: text.duration(row.left_s), numeric=True, spare=3),
)
WIDE_COLUMNS: tuple[Column[PaidInstance], ...] = (
    Column("SINCE", lambda row, now: text.local_time(row.since, now)),
    Column("ID", lambda row, _: row.id or text.NOTHING),
    Column("WHERE", lambda row, _: row.where or text.NOTHING),
)


def paid_table(rows: Sequence[PaidInstance], now: datetime, *, wide: bool) -> FittedTable[PaidInstance]:
    """A line for each instance."""
    return FittedTable(rows, COLUMNS + (WIDE_COLUMNS if wide else ()), now)
