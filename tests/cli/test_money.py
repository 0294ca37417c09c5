"""What costs money, and what has: elastic instances, reap and cost."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import CredentialsError
from orchestrator.fleets import owned
from orchestrator.fleets.local import work_directories
from orchestrator.fleets.owned import Holdings, Owned
from orchestrator.fleets.processes import MARKER
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import store_identity, submit_job
from orchestrator.jobs.charges import Charge
from orchestrator.jobs.pace import JOB_HOUR_USD, STORAGE_USD_PER_GB_MONTH
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import InstanceUse
from orchestrator.reading.costs import InBucket
from orchestrator.reading.paid_instances import Orphans, find_orphans
from orchestrator.store.local import LocalStore
from orchestrator.store.protocol import Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import NOW, change, finish, nonce, put_checkpoint, put_pending, put_training, spec_named

DAY = date(2026, 11, 24)


def use(instance: str, **fields: Any) -> InstanceUse:
    """An instance that has lived for half an hour, on a spot g6.xlarge for $0.40."""
    given = {"instance_type": "g6.xlarge", "zone": "us-east-1a", "market": "spot", "usd_per_hour": 0.4}
    times = {"since": NOW - timedelta(minutes=30), "lived_s": 1800.0, "allowance_s": 7200.0, "shown": True}
    return InstanceUse.model_validate({"instance": instance, **given, **times, **fields})


def put_paid(store: Store, name: str = "digits", **fields: Any) -> None:
    """A job that trains on an instance that is paid for."""
    put_training(store, name)
    change(store, name, uses=(use(f"{name}-g1-n0-a0"),), counted_at=datetime.now(UTC), **fields)


def listed(elastic: Elastic) -> dict[str, dict[str, Any]]:
    outcome = elastic("instances", "-o", "json")
    assert outcome.code == 0, outcome.err
    return {row["instance"]: row for row in json.loads(outcome.out)}


@dataclass
class Cloud:
    """Has instances, and ends them when it is told to."""

    instances: list[Owned]
    ended: list[str] = field(default_factory=list)
    error: CredentialsError | None = None

    def owned(self) -> list[Owned]:
        if self.error is not None:
            raise self.error
        return self.instances

    def end(self, id: str) -> None:
        self.ended.append(id)


def in_cloud(name: str, id: str = "i-1") -> Owned:
    since = datetime.now(UTC) - timedelta(hours=1)
    return Owned(id, name, "EC2, us-east-1a", "g6.xlarge", "us-east-1a", "on_demand", since, 0.8048)


@pytest.fixture
def cloud(store: Store, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A cloud that `elastic` asks beside this machine."""
    made = Cloud([])
    here = owned.holdings_of

    def holdings(*given: Any, **named: Any) -> list[Holdings]:
        return [*here(*given, **named), made]

    monkeypatch.setattr(owned, "holdings_of", holdings)
    return made


# --- instances --------------------------------------------------------------------------------------------------------


def test_instances_are_listed_with_their_price_and_what_they_may_still_live(elastic: Elastic, store: Store) -> None:
    put_paid(store)
    row = listed(elastic)["digits-g1-n0-a0"]
    assert (row["job"], row["state"], row["orphan"]) == ("digits", "running", False)
    assert (row["instance_type"], row["zone"], row["market"]) == ("g6.xlarge", "us-east-1a", "spot")
    assert row["lived_s"] == pytest.approx(1800, abs=120) and row["left_s"] == pytest.approx(5400, abs=120)
    assert row["cost_usd"] == pytest.approx(0.4 * row["lived_s"] / 3600, abs=1e-4)
    outcome = elastic("instances")
    assert "INSTANCE" in outcome.out and "$0.40" in outcome.out
    assert "1 instance, $0.40 an hour in all." in outcome.err
    assert elastic("instances", "-o", "name").out == "digits-g1-n0-a0\n"


def test_what_was_never_seen_is_being_launched_and_what_is_retired_ends(elastic: Elastic, store: Store) -> None:
    put_paid(store)
    more = (use("digits-g2-n0-a0", shown=False), use("digits-g0-n0-a0"))
    change(store, "digits", uses=(use("digits-g1-n0-a0"), *more), retired=("digits-g0-n0-a0",))
    states = {name: row["state"] for name, row in listed(elastic).items()}
    assert states == {"digits-g0-n0-a0": "ending", "digits-g1-n0-a0": "running", "digits-g2-n0-a0": "launching"}


def test_without_instances_that_is_said(elastic: Elastic, store: Store) -> None:
    put_pending(store)
    outcome = elastic("instances")
    assert (outcome.code, outcome.out) == (0, "")
    assert f"No instance runs for {store.url}." in outcome.err
    assert elastic("instances", "-o", "json").out == "[]\n"


# --- what belongs to no job -------------------------------------------------------------------------------------------


def test_what_a_cloud_has_and_no_job_knows_is_an_orphan(elastic: Elastic, store: Store, cloud: Cloud) -> None:
    put_paid(store)
    put_training(store, "over")
    finish(store, "over", JobPhase.SUCCEEDED, "finished")
    names = ("digits-g1-n0-a0", "digits-g7-n0-a0", "removed-g1-n0-a0", "over-g1-n0-a0", "")
    cloud.instances = [in_cloud(name, f"i-{number}") for number, name in enumerate(names)]
    rows = listed(elastic)
    orphans = {name for name, row in rows.items() if row["orphan"]}
    assert orphans == {"digits-g7-n0-a0", "removed-g1-n0-a0", "over-g1-n0-a0", "i-4"}
    assert rows["i-4"]["cost_usd"] == pytest.approx(0.8048, abs=0.05)
    told = elastic("instances").err
    assert "4 of them belong to no job." in told and "elastic reap" in told


def test_reap_ends_orphans_and_nothing_else(elastic: Elastic, store: Store, cloud: Cloud) -> None:
    put_paid(store)
    change(store, "digits", retired=("digits-g0-n0-a0",))
    cloud.instances = [
        in_cloud("digits-g1-n0-a0", "i-wanted"),
        in_cloud("digits-g0-n0-a0", "i-retired"),
        in_cloud("removed-g1-n0-a0", "i-orphan"),
    ]
    asked = elastic("reap")
    assert (asked.code, asked.out, cloud.ended) == (2, "", [])
    assert "--yes" in asked.err and "removed-g1-n0-a0" in asked.err
    outcome = elastic("reap", "--yes")
    assert (outcome.code, outcome.out) == (0, "removed-g1-n0-a0\n")
    assert cloud.ended == ["i-orphan"]


def test_what_is_launched_while_one_looks_is_no_orphan(store: Store) -> None:
    """Fleets are asked first: a record names an instance before it is launched."""
    put_training(store)

    class Launching(Cloud):
        def owned(self) -> list[Owned]:
            change(store, "digits", uses=(use("digits-g2-n0-a0", shown=False),))
            return [in_cloud("digits-g2-n0-a0")]

    assert find_orphans(store, [Launching([])]) == Orphans([], [], {})


def test_a_fleet_that_cannot_be_asked_hides_nothing_of_the_rest(elastic: Elastic, store: Store, cloud: Cloud) -> None:
    put_paid(store)
    cloud.error = CredentialsError("The credentials have expired: log in again.")
    outcome = elastic("instances")
    assert outcome.code == 0 and "digits-g1-n0-a0" in outcome.out
    assert "credentials have expired" in outcome.err and "is not shown" in outcome.err
    reaped = elastic("reap", "--yes")
    assert reaped.code == 4 and "credentials have expired" in reaped.err


def test_a_record_that_nobody_can_read_hides_nothing_of_the_rest(elastic: Elastic, store: Store, cloud: Cloud) -> None:
    put_paid(store)
    put_paid(store, "altered")
    store.put(layout.record_key("altered"), b"{}")
    cloud.instances = [in_cloud("altered-g1-n0-a0", "i-unclear"), in_cloud("removed-g1-n0-a0", "i-orphan")]
    outcome = elastic("instances", "-o", "name")
    assert (outcome.code, outcome.out) == (0, "digits-g1-n0-a0\nremoved-g1-n0-a0\n"), outcome.err
    assert outcome.err.count("is no JobRecord") == 1 and "the instances of altered are not shown" in outcome.err
    reaped = elastic("reap", "--yes")
    assert (reaped.code, reaped.out) == (1, "removed-g1-n0-a0\n")
    assert "the instances of altered are left alone" in reaped.err
    assert cloud.ended == ["i-orphan"]


def test_a_store_that_no_controller_has_used_has_nothing(elastic: Elastic, store: Store) -> None:
    assert list(store.list("control/")) == []
    outcome = elastic("reap", "--yes")
    assert (outcome.code, outcome.out) == (0, "")
    assert "belongs to no job" in outcome.err
    assert list(store.list("control/")) == [], "looking changes nothing"


@contextmanager
def process_of(store: Store, instance: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process as one that an instance has started, and that its agent has left behind."""
    directory = work_directories(store_identity(store, nonce)) / instance
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    with subprocess.Popen(command, env={**os.environ, MARKER: str(directory)}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_processes_here_whose_job_is_gone_are_found_and_ended(elastic: Elastic, store: Store) -> None:
    put_paid(store)
    with process_of(store, "removed-g1-n0-a0") as left, process_of(store, "digits-g1-n0-a0") as wanted:
        row = listed(elastic)["removed-g1-n0-a0"]
        assert (row["orphan"], row["where"], row["usd_per_hour"]) == (True, "this machine", 0.0)
        outcome = elastic("reap", "--yes")
        assert (outcome.code, outcome.out) == (0, "removed-g1-n0-a0\n"), outcome.err
        left.wait(10)
        assert wanted.poll() is None
    assert "removed-g1-n0-a0" not in listed(elastic)


def test_processes_of_another_store_are_none_of_its_business(elastic: Elastic, store: Store, tmp_path: Path) -> None:
    from orchestrator.store.open import open_store

    store_identity(store, nonce)
    with process_of(open_store(str(tmp_path / "another"), {}), "removed-g1-n0-a0") as theirs:
        assert elastic("reap", "--yes").out == ""
        assert theirs.poll() is None


# --- cost -------------------------------------------------------------------------------------------------------------


def charge(**fields: Any) -> Charge:
    given = {"day": DAY, "instance_type": "g6.xlarge", "market": "spot", "seconds": 7200.0, "usd": 0.6}
    return Charge.model_validate({**given, **fields})


@pytest.fixture
def spent(store: Store) -> Store:
    """Two jobs that have cost something, of which one runs."""
    put_paid(store, "digits", spent_usd=0.6, charges=(charge(),))
    put_pending(store, "leaves")
    charges = (
        charge(market="on_demand", usd=2.0, seconds=3600.0),
        charge(day=DAY + timedelta(days=1), instance_type="g5.xlarge", usd=0.5, seconds=3600.0),
    )
    change(store, "leaves", spent_usd=2.5, charges=charges)
    put_pending(store, "nothing-yet")
    return store


def costs(elastic: Elastic, *arguments: str) -> list[dict[str, Any]]:
    outcome = elastic("cost", *arguments, "-o", "json")
    assert outcome.code == 0, outcome.err
    rows: list[dict[str, Any]] = json.loads(outcome.out)
    return rows


def test_cost_by_job_counts_what_runs_too(elastic: Elastic, spent: Store) -> None:
    leaves, digits = costs(elastic)
    assert (leaves["job"], leaves["usd"], leaves["hours"]) == ("leaves", 2.5, 2.0)
    assert digits["job"] == "digits" and digits["usd"] == pytest.approx(0.6 + 0.2, abs=0.02)
    assert leaves["saved_usd"] == pytest.approx(1.006 - 0.5), "on demand a g5.xlarge costs $1.006 an hour"
    outcome = elastic("cost")
    assert "JOB" in outcome.out and "$2.50" in outcome.out
    assert "$3.30 in all" in outcome.err and "$0.40 an hour" in outcome.err and "Spot instances saved" in outcome.err


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("day", lambda: [DAY.isoformat(), (DAY + timedelta(days=1)).isoformat()]),
        ("type", lambda: ["g6.xlarge", "g5.xlarge"]),
        ("market", lambda: ["on_demand", "spot"]),
    ],
)
def test_cost_by_day_type_and_market(elastic: Elastic, spent: Store, by: str, names: Callable[[], list[str]]) -> None:
    rows = costs(elastic, "--by", by)
    ran_on = {(NOW - timedelta(minutes=minutes)).date().isoformat() for minutes in (30, 0, -1)}  # midnight between them
    assert [row[by] for row in rows if row[by] not in ran_on] == names()
    assert sum(row["usd"] for row in rows) == pytest.approx(3.3, abs=0.02)


def test_cost_of_one_job(elastic: Elastic, spent: Store) -> None:
    assert [row["market"] for row in costs(elastic, "leaves", "--by", "market")] == ["on_demand", "spot"]
    assert elastic("cost", "leaves", "-o", "name").out == "leaves\n"
    assert elastic("cost", "leavse").code == 2


def test_cost_of_what_an_older_version_spent_is_not_lost(elastic: Elastic, store: Store) -> None:
    put_pending(store)
    change(store, "digits", spent_usd=1.25)
    [row] = costs(elastic, "--by", "type")
    assert (row["type"], row["usd"], row["saved_usd"]) == ("unknown", 1.25, None)


def test_cost_with_what_lies_in_the_bucket(elastic: Elastic, spent: Store) -> None:
    spent.create("jobs/leaves/checkpoints/model.pt", bytes(100_000))
    leaves, digits = costs(elastic, "--bucket")
    assert leaves["stored_bytes"] > 100_000 > digits["stored_bytes"] > 0
    assert (leaves["storage_usd_per_month"], leaves["requests_usd"]) == (0.0, 0.0), "a directory bills nothing"
    assert "STORED" in elastic("cost", "--bucket").out
    assert elastic("cost", "--bucket", "--by", "day").code == 2


def test_a_bucket_takes_for_bytes_and_for_requests() -> None:
    taken = InBucket.of(2 * 10**9, 10.0, billed=True)
    assert (taken.storage_usd_per_month, taken.requests_usd) == (0.046, 0.11)


def test_what_a_billed_bucket_has_taken_is_shown_with_jobs(
    elastic: Elastic, spent: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_checkpoint(spent, "leaves", {"state.pt": b"x"}, size_bytes=10**9)
    change(spent, "leaves", started_at=datetime.now(UTC) - timedelta(hours=73))
    assert json.loads(elastic("show", "leaves", "-o", "json").out)["bucket_usd"] == 0, "a directory bills nothing"
    assert "bucket" not in elastic("show", "leaves").out + elastic("cost").err

    monkeypatch.setattr(LocalStore, "billed", True)
    kept, hours_of_instances = 3, 2
    taken = hours_of_instances * JOB_HOUR_USD + kept * STORAGE_USD_PER_GB_MONTH * 73 / 730
    assert json.loads(elastic("show", "leaves", "-o", "json").out)["bucket_usd"] == pytest.approx(taken, abs=2e-4)
    assert "$2.50, and the bucket about $0.03" in " ".join(elastic("show", "leaves").out.split())
    assert re.search(r"^leaves .* \$0\.03 ", elastic("ps", "-o", "wide").out, re.MULTILINE)
    assert "The bucket took about $0.05 for requests on top" in elastic("cost").err
    assert "on top" not in elastic("cost", "--bucket").err


def test_cost_by_anything_else_is_refused(elastic: Elastic, store: Store) -> None:
    outcome = elastic("cost", "--by", "colour")
    assert (outcome.code, outcome.out) == (2, "")
    assert "use job, day, type, market" in outcome.err


def test_spend_is_shown_with_jobs(elastic: Elastic, spent: Store) -> None:
    assert "$2.50" in elastic("ps").out and "SPENT" in elastic("ps").out
    assert "$2.50" in elastic("show", "leaves").out


def test_show_tells_of_the_budget_and_of_the_hour(elastic: Elastic, store: Store) -> None:
    submit_job(store, spec_named("digits", "limits.max_cost=25"), NOW, nonce)
    change(store, "digits", uses=(use("digits-g1-n0-a0"),), counted_at=datetime.now(UTC), spent_usd=1.0)
    [line] = [line for line in elastic("show", "digits").out.splitlines() if line.startswith("spent")]
    assert "$1.20 of $25.00, $0.40 an hour now" in line
    status = json.loads(elastic("show", "digits", "-o", "json").out)
    assert (status["usd_per_hour"], status["max_cost_usd"]) == (0.4, 25.0)
