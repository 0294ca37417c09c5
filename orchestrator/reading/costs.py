"""What jobs have cost, told by job, day, type or market. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from orchestrator.jobs.charges import Charge, added
from orchestrator.jobs.pace import JOB_HOUR_USD, STORAGE_USD_PER_GB_MONTH
from orchestrator.jobs.record import JobRecord
from orchestrator.spec.instance_types import GPU_TYPES

_ON_DEMAND = {known.name: known.usd_per_hour for known in GPU_TYPES}
_CENT_OF_A_CENT = 1e-4


class By(StrEnum):
    """What costs are put together by."""

    JOB = "job"
    DAY = "day"
    TYPE = "type"
    MARKET = "market"


@dataclass(frozen=True)
class Cost:
    """What one job, day, type or market has cost."""

    name: str
    hours: float
    """Of instances, added up."""
    usd: float
    saved_usd: float | None
    """How much more its spot instances would have cost on demand; None: there were none, or nobody tells."""

    in_bucket: "InBucket | None" = None
    """What comes on top, where that was asked for."""

    def as_data(self, by: By) -> dict[str, Any]:
        """For -o json."""
        figures = asdict(self)
        in_bucket = figures.pop("in_bucket") or {}
        return {str(by): figures.pop("name"), **figures, **in_bucket}


@dataclass(frozen=True)
class InBucket:
    """What a bucket takes for a job, about: by list prices, and by the requests that such a job was counted to make."""

    stored_bytes: int
    storage_usd_per_month: float
    requests_usd: float

    @classmethod
    def of(cls, stored_bytes: int, hours: float, *, billed: bool) -> "InBucket":
        """Of what a job has there now, and the hours that its instances have run."""
        if not billed:
            return cls(stored_bytes, 0.0, 0.0)
        month = STORAGE_USD_PER_GB_MONTH * stored_bytes / 1e9
        return cls(stored_bytes, round(month, 6), round(JOB_HOUR_USD * hours, 6))


def charges_of(record: JobRecord, now: datetime) -> tuple[Charge, ...]:
    """All that a job has cost up to now: what is gone, and what is there."""
    charges = record.charges
    untold_usd = record.spent_usd - sum(charge.usd for charge in charges)
    if untold_usd > _CENT_OF_A_CENT:  # of a version that did not write down when and for what
        untold = Charge(day=record.created_at.date(), instance_type="", market="on_demand", seconds=0.0, usd=untold_usd)
        charges = added(charges, iter((untold,)))
    for use in record.uses:
        charges = added(charges, use.charge(record.lived_s(use, now)))
    return charges


def costs_by(by: By, charges: Iterable[tuple[str, Charge]]) -> list[Cost]:
    """Charges of jobs, put together; days in their order, the rest with the dearest first."""
    groups: dict[str, list[Charge]] = {}
    for job, charge in charges:
        groups.setdefault(_KEYS[by](job, charge), []).append(charge)
    costs = [_cost(name, of_name) for name, of_name in groups.items()]
    if by is By.DAY:
        return sorted(costs, key=lambda cost: cost.name)
    return sorted(costs, key=lambda cost: (-cost.usd, cost.name))


def in_all(costs: Sequence[Cost]) -> Cost:
    """The sum."""
    saved = [cost.saved_usd for cost in costs if cost.saved_usd is not None]
    return Cost(
        "in all",
        sum(cost.hours for cost in costs),
        sum(cost.usd for cost in costs),
        sum(saved) if saved else None,
    )


_KEYS: dict[By, Callable[[str, Charge], str]] = {
    By.JOB: lambda job, _: job,
    By.DAY: lambda _, charge: charge.day.isoformat(),
    By.TYPE: lambda _, charge: charge.instance_type or "unknown",
    By.MARKET: lambda _, charge: charge.market,
}


def _cost(name: str, charges: Sequence[Charge]) -> Cost:
    saved = [more for charge in charges if (more := _saved_usd(charge)) is not None]
    return Cost(
        name,
        hours=round(sum(charge.seconds for charge in charges) / 3600, 4),
        usd=round(sum(charge.usd for charge in charges), 6),
        saved_usd=round(sum(saved), 6) if saved else None,
    )


def _saved_usd(charge: Charge) -> float | None:
    on_demand = _ON_DEMAND.get(charge.instance_type)
    if charge.market != "spot" or on_demand is None:
        return None
    return on_demand * charge.seconds / 3600 - charge.usd
