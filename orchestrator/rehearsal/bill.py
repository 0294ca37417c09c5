"""What the instances of a rehearsal would have cost: to the second, at the price that each was launched for."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from orchestrator.fleets.ec2.sightings import INSTANCE_TAG
from orchestrator.fleets.protocol import Market
from orchestrator.rehearsal.account import LedgerEntry

LEAST_SECONDS = 60
"""EC2 bills by the second, but no instance for less than a minute."""


@dataclass(frozen=True)
class BillLine:
    """One instance."""

    instance: str
    """Its name in elastic, or its id."""
    instance_type: str
    zone: str
    market: Market
    seconds: int
    """From its launch to its end."""
    usd_per_hour: float
    why_ended: str

    @property
    def usd(self) -> float:
        """What EC2 would ask for it."""
        return max(self.seconds, LEAST_SECONDS) * self.usd_per_hour / 3600


@dataclass(frozen=True)
class Bill:
    """All instances, in the order in which they were launched."""

    lines: tuple[BillLine, ...]

    @property
    def seconds(self) -> int:
        """How long instances have lived, all together."""
        return sum(line.seconds for line in self.lines)

    @property
    def usd(self) -> float:
        """What EC2 would ask for."""
        return sum(line.usd for line in self.lines)


def bill_of(ledger: Iterable[LedgerEntry], now: datetime) -> Bill:
    """The bill for what an account has started; an instance that still lives is billed until now."""
    return Bill(tuple(_line(entry, now) for entry in ledger))


def _line(entry: LedgerEntry, now: datetime) -> BillLine:
    return BillLine(
        instance=entry.tags.get(INSTANCE_TAG, entry.id),
        instance_type=entry.instance_type,
        zone=entry.zone,
        market=entry.market,
        seconds=int((_shown(entry.ended_at or now) - _shown(entry.launched_at)).total_seconds()),
        usd_per_hour=entry.usd_per_hour,
        why_ended=entry.why,
    )


def _shown(at: datetime) -> datetime:
    """As DescribeInstances shows it: to the second."""
    return at.replace(microsecond=0)
