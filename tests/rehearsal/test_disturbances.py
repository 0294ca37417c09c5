"""What goes wrong in a rehearsal, when, and to whom."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.fleets.protocol import Market
from orchestrator.rehearsal.account import LedgerEntry
from orchestrator.rehearsal.disturbances import Disturbance, Kind, due, victim

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def entry(number: int, *, state: str = "running", market: Market = "spot") -> LedgerEntry:
    return LedgerEntry(
        id=f"i-{number}",
        tags={},
        instance_type="g5.xlarge",
        zone="us-east-1a",
        market=market,
        state=state,
        why="",
        launched_at=BEGAN + timedelta(seconds=number),
        ended_at=None,
        usd_per_hour=1.0,
        user_data="",
        has_role=True,
        shows_tags=True,
    )


def test_they_are_due_in_the_order_of_their_times() -> None:
    late, early = Disturbance(Kind.INTERRUPTION, 40.0), Disturbance(Kind.CONTROLLER_KILLED, 30.0)
    assert due([late, early], 29.9) == []
    assert due([late, early], 35.0) == [early]
    assert due([late, early], 100.0) == [early, late]


@pytest.mark.parametrize("kind", [Kind.INTERRUPTION, Kind.INTERRUPTION_WITHOUT_NOTICE])
def test_the_first_that_runs_is_interrupted(kind: Kind) -> None:
    ledger = [entry(1, state="terminated"), entry(4, state="pending"), entry(3), entry(2), entry(5)]
    found = victim(kind, ledger, spared=[])
    assert found is not None and found.id == "i-2"
    found = victim(kind, ledger, spared=["i-2"])
    assert found is not None and found.id == "i-3"
    assert victim(kind, ledger[:2], spared=[]) is None


def test_spot_instances_are_interrupted_and_others_only_break() -> None:
    ledger = [entry(1, market="on_demand"), entry(2)]
    found = victim(Kind.INTERRUPTION_WITHOUT_NOTICE, ledger, spared=[])
    assert found is not None and found.id == "i-2"
    assert victim(Kind.INTERRUPTION, ledger[:1], spared=[]) is None
    found = victim(Kind.INTERRUPTION_WITHOUT_NOTICE, ledger[:1], spared=[])
    assert found is not None and found.id == "i-1"
