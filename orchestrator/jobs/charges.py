"""What the instances of a job have cost, by day, type and market: kept in its record as they end.

So that it can be told without the job's events, which are many. A day is one of UTC, by the clock of the controller
that launched the instance; what it costs depends on no clock (see `InstanceUse`).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

Market = Literal["spot", "on_demand"]


class Charge(BaseModel):
    """What instances of one type, bought in one way, cost on one day."""

    model_config = ConfigDict(frozen=True)

    day: date
    instance_type: str
    """Empty for what older versions have not written down."""
    market: Market
    seconds: float
    """For how long they were paid, added up."""
    usd: float


def charge(
    instance_type: str, market: Market, since: datetime, seconds: float, usd_per_hour: float
) -> Iterator[Charge]:
    """What one instance has cost, a charge for each day of its life."""
    begin = since.astimezone(UTC)
    while seconds > 0:
        midnight = datetime.combine(begin.date() + timedelta(days=1), time(), UTC)
        of_day_s = min(seconds, (midnight - begin).total_seconds())
        yield Charge(
            day=begin.date(),
            instance_type=instance_type,
            market=market,
            seconds=of_day_s,
            usd=usd_per_hour * of_day_s / 3600,
        )
        begin, seconds = midnight, seconds - of_day_s


def added(charges: tuple[Charge, ...], more: Iterator[Charge]) -> tuple[Charge, ...]:
    """The same with more, those of one day, type and market as one: so they stay few."""
    sums = {(c.day, c.instance_type, c.market): c for c in charges}
    for new in more:
        key = (new.day, new.instance_type, new.market)
        old = sums.get(key)
        sums[key] = new if old is None else new.model_copy(
            update={"seconds": old.seconds + new.seconds, "usd": old.usd + new.usd}
        )  # fmt: skip
    return tuple(sums[key] for key in sorted(sums))
