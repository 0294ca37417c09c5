"""What an account has for a store and no job knows of is found by tag, through the command, and ended."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.cli.checks import Verdict, check_ec2
from orchestrator.cli.invocation import Invocation
from orchestrator.fleets.owned import Holdings, OwnedInAccount, holdings_of
from orchestrator.jobs.bucket import store_identity
from orchestrator.jobs.cloud_account import ACCOUNT_KEY
from orchestrator.store import document
from orchestrator.store.open import open_store
from tests.cli.conftest import Elastic, elastic
from tests.cli.stored_jobs import nonce, put_training
from tests.support.moto_ec2 import Bench

__all__ = ["elastic"]


@pytest.fixture
def store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of the test's own, which every command here uses."""
    url = (tmp_path / "store").as_uri()
    monkeypatch.setenv("ELASTIC_STORE", url)
    return url


def test_orphans_in_an_account_are_shown_and_reaped(bench: Bench, elastic: Elastic, store_url: str) -> None:
    store = open_store(store_url, {})
    mine = Bench(bench.aws, bench.account, store_identity(store, nonce))
    document.create(store, ACCOUNT_KEY, bench.account, nonce)
    put_training(store, "job")
    kept, orphan = mine.launched("job-g1-n0-a0"), mine.launched("gone-g1-n0-a0", market="on_demand")
    anothers = bench.launched("other-g1-n0-a0")

    rows = json.loads(elastic("instances", "-o", "json").out)
    [row] = [row for row in rows if row["orphan"]]
    assert (row["instance"], row["id"], row["market"]) == ("gone-g1-n0-a0", orphan, "on_demand")
    assert row["usd_per_hour"] == 0.8048
    outcome = elastic("reap", "--yes")
    assert (outcome.code, outcome.out) == (0, "gone-g1-n0-a0\n"), outcome.err
    states = {one.instance_id: one.state for one in mine.fleet.owned()}
    assert states[kept] in ("pending", "running") and states.get(orphan, "shutting-down") == "shutting-down"
    assert {one.instance_id for one in bench.fleet.owned()} == {anothers}
    assert [row["instance"] for row in json.loads(elastic("instances", "-o", "json").out) if row["orphan"]] == []


def test_what_is_ended_is_no_orphan_any_more(bench: Bench) -> None:
    bench.launched("job-g1-n0-a0")
    held = OwnedInAccount(bench.fleet)
    [owned] = held.owned()
    assert (owned.instance, owned.usd_per_hour) == ("job-g1-n0-a0", None), "nobody tells what a spot instance costs"
    held.end(owned.id)
    assert held.owned() == []


def test_a_store_without_an_account_asks_nobody(store_url: str) -> None:
    store = open_store(store_url, {})

    def holdings() -> list[Holdings]:
        return holdings_of(store, nonce, now=lambda: datetime.now(UTC), monotonic=lambda: 0.0, log=print)

    assert holdings() == []
    store_identity(store, nonce)
    assert len(holdings()) == 1, "this machine"


def test_the_doctor_says_whether_ec2_answers(bench: Bench, store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(store_url, {})
    assert "elastic bootstrap" in check_ec2(store, Invocation({})).seen
    mine = Bench(bench.aws, bench.account, store_identity(store, nonce))
    document.create(store, ACCOUNT_KEY, bench.account, nonce)
    mine.launched("job-g1-n0-a0")
    found = check_ec2(store, Invocation({}))
    assert found.verdict is Verdict.OK
    assert bench.account.account_id in found.seen and "1 instance of this store there now" in found.seen
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    found = check_ec2(store, Invocation({}))
    assert found.verdict is Verdict.FAIL and "credentials" in found.seen
