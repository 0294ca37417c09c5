"""What was paid, by day: no second is counted twice or lost, whatever the zone and however long."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from orchestrator.jobs.charges import Charge, added, charge
from orchestrator.jobs.record import InstanceUse

EVENING = datetime(2026, 11, 24, 23, 0, tzinfo=UTC)


def test_a_life_across_midnight_is_two_days() -> None:
    first, second = charge("g6.xlarge", "spot", EVENING, 3 * 3600, 0.30)
    assert (first.day, first.seconds) == (date(2026, 11, 24), 3600)
    assert (second.day, second.seconds) == (date(2026, 11, 25), 7200)
    assert [first.usd, second.usd] == pytest.approx([0.30, 0.60])


def test_a_day_is_one_of_utc() -> None:
    there = EVENING.astimezone(timezone(timedelta(hours=9)))
    assert list(charge("g6.xlarge", "spot", there, 7200, 1.0)) == list(charge("g6.xlarge", "spot", EVENING, 7200, 1.0))


@pytest.mark.parametrize("seconds", [0.0, 0.25, 3600.0, 86_400.0, 40 * 86_400.0 + 0.5])
def test_the_days_together_are_the_life(seconds: float) -> None:
    days = list(charge("g6.xlarge", "spot", EVENING, seconds, 0.8))
    assert sum(each.seconds for each in days) == pytest.approx(seconds)
    assert sum(each.usd for each in days) == pytest.approx(0.8 * seconds / 3600)
    assert len({each.day for each in days}) == len(days)


def test_charges_of_one_kind_become_one() -> None:
    charges: tuple[Charge, ...] = ()
    for _ in range(100):
        charges = added(charges, charge("g6.xlarge", "spot", EVENING, 7200, 1.0))
        charges = added(charges, charge("g6.xlarge", "on_demand", EVENING, 1800, 2.0))
    assert [(each.day.day, each.market, round(each.usd, 6)) for each in charges] == [
        (24, "on_demand", 100.0),
        (24, "spot", 100.0),
        (25, "spot", 100.0),
    ]


def test_nothing_is_charged_beyond_the_allowance() -> None:
    use = InstanceUse(instance="i", instance_type="g6.xlarge", usd_per_hour=1.0, since=EVENING, allowance_s=1800.0)
    [only] = use.charge(86_400.0)
    assert only.usd == use.cost_usd(86_400.0) == 0.5
