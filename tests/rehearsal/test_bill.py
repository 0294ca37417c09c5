"""The bill: by the second, at the price of the launch, no instance for less than a minute."""

from datetime import UTC, datetime, timedelta

from orchestrator.rehearsal.account import LedgerEntry
from orchestrator.rehearsal.bill import bill_of

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
NOW = BEGAN + timedelta(hours=2)


def entry(lived_s: float | None, usd_per_hour: float = 3.6, **changes: object) -> LedgerEntry:
    values: dict[str, object] = {
        "id": "i-1",
        "tags": {"elastic:instance": "digits-g1-s0-a0"},
        "instance_type": "g5.xlarge",
        "zone": "us-east-1a",
        "market": "spot",
        "state": "terminated",
        "why": "",
        "launched_at": BEGAN,
        "ended_at": None if lived_s is None else BEGAN + timedelta(seconds=lived_s),
        "usd_per_hour": usd_per_hour,
        "user_data": "",
        "has_role": True,
        "shows_tags": True,
    }
    return LedgerEntry(**{**values, **changes})  # type: ignore[arg-type]


def test_each_second_costs_its_share_of_the_hour() -> None:
    bill = bill_of([entry(1800.0), entry(90.9, usd_per_hour=7.2)], NOW)
    assert [line.seconds for line in bill.lines] == [1800, 90]
    assert [round(line.usd, 6) for line in bill.lines] == [1.8, 0.18]
    assert (bill.seconds, round(bill.usd, 6)) == (1890, 1.98)


def test_no_instance_is_billed_for_less_than_a_minute() -> None:
    [line] = bill_of([entry(12.0)], NOW).lines
    assert (line.seconds, round(line.usd, 6)) == (12, 0.06)


def test_who_still_lives_is_billed_until_now() -> None:
    [line] = bill_of([entry(None, state="running")], NOW).lines
    assert line.seconds == 7200


def test_an_instance_goes_by_its_name_or_else_by_its_id() -> None:
    assert [line.instance for line in bill_of([entry(60.0), entry(60.0, tags={})], NOW).lines] == [
        "digits-g1-s0-a0",
        "i-1",
    ]
