"""What jobs have cost, as a table."""

from collections.abc import Sequence
from datetime import datetime

from orchestrator.cli.fitted_table import Column, FittedTable
from orchestrator.reading import text
from orchestrator.reading.costs import By, Cost


def cost_table(costs: Sequence[Cost], by: By, now: datetime) -> FittedTable[Cost]:
    """A line for each job, day, type or market."""
    columns = [
        Column[Cost](str(by).upper(), lambda cost, _: cost.name),
        Column[Cost]("HOURS", lambda cost, _: f"{cost.hours:,.2f}", numeric=True),
        Column[Cost]("SPENT", lambda cost, _: text.usd(cost.usd), numeric=True),
        Column[Cost]("SAVED", lambda cost, _: _usd(cost.saved_usd), numeric=True, spare=1),
    ]
    if any(cost.in_bucket for cost in costs):
        columns += [
            Column[Cost]("STORED", _stored, numeric=True),
            Column[Cost]("A MONTH", _a_month, numeric=True),
            Column[Cost]("REQUESTS", _requests, numeric=True),
        ]
    return FittedTable(costs, columns, now)


def _usd(amount: float | None) -> str:
    return text.NOTHING if amount is None else text.usd(amount)


def _stored(cost: Cost, _: datetime) -> str:
    return text.NOTHING if cost.in_bucket is None else text.size(cost.in_bucket.stored_bytes)


def _a_month(cost: Cost, _: datetime) -> str:
    return _usd(None if cost.in_bucket is None else cost.in_bucket.storage_usd_per_month)


def _requests(cost: Cost, _: datetime) -> str:
    return _usd(None if cost.in_bucket is None else cost.in_bucket.requests_usd)
