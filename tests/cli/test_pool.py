"""`elastic pool`: who has joined, what is free there, and what runs."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.cli.checks import Verdict, check_pool
from orchestrator.cli.invocation import Invocation
from orchestrator.fleets.pool.records import Given, Hosted, Order, Orders, Report
from orchestrator.fleets.protocol import InstanceState
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import store_identity
from orchestrator.store import document
from orchestrator.store.open import open_store
from orchestrator.store.protocol import Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import nonce
from tests.fleets.pool.reports import L4, report, request

NAME = "digits-g1-n0-a0"


@pytest.fixture
def store(store_url: str) -> Store:
    return open_store(store_url, {})


def put(store: Store, machine: Report, seen_s: float = 1.0) -> None:
    now = datetime.now(UTC)
    new = machine.model_copy(update={"at": now - timedelta(seconds=seen_s), "joined_at": now - timedelta(days=3)})
    document.create(store, layout.pool_machine_key(machine.machine), new, nonce)


def put_all(store: Store) -> None:
    """Two that take orders, one of them with an instance that runs and one that was just ordered; and others."""
    runs = Hosted(state=InstanceState.RUNNING, job="digits", given=Given(gpus=(0,)))
    put(store, report("gpu-1", (L4, L4), labels={"site": "lab"}, instances={NAME: runs}))
    put(store, report("plain", cores=8))
    put(store, report("quiet", cores=4), seen_s=300)
    put(store, report("left", (L4,), state="gone"), seen_s=3600)
    put(store, report("forgotten", (L4,), state="gone"), seen_s=90_000)
    other = Order(machine="plain", seq=1, request=request("other-g1-n0-a0"), given=Given(cores=2))
    mine = Order(machine="gpu-1", seq=1, request=request(NAME), given=Given(gpus=(0,)))
    document.create(store, layout.POOL_ORDERS, Orders(current={NAME: mine, "other-g1-n0-a0": other}), nonce)


def test_an_empty_pool_says_how_a_machine_joins(elastic: Elastic, store: Store) -> None:
    outcome = elastic("pool")
    assert (outcome.code, outcome.out) == (0, "")
    assert f"elastic agent --join {store.url}" in outcome.err
    assert elastic("pool", "-o", "json").out == "[]\n"


def test_each_machine_has_a_line(elastic: Elastic, store: Store) -> None:
    put_all(store)
    outcome = elastic("pool")
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in outcome.out.splitlines()}
    assert list(lines) == ["MACHINE", "gpu-1", "left", "plain", "quiet"]
    assert re.fullmatch(r"ready 2 × NVIDIA L4 2 1 of 2 GPUs digits [1-9]\d?s ago", lines["gpu-1"])
    assert re.fullmatch(r"ready – 8 6 of 8 cores other [1-9]\d?s ago", lines["plain"])
    assert lines["quiet"].startswith("silent – 4 4 of 4 cores – 5m")
    assert lines["left"].startswith("gone 1 × NVIDIA L4 2 – –")
    assert "4 machines; of those that take orders 1 of 2 GPUs and 6 of 8 cores are free." in outcome.err


@pytest.mark.parametrize(("output", "text"), [("wide", "site=lab"), ("wide", NAME), ("yaml", "gpus_free:\n  - 1")])
def test_wide_and_yaml_tell_more(elastic: Elastic, store: Store, output: str, text: str) -> None:
    put_all(store)
    assert text in elastic("pool", "-o", output).out


def test_programs_get_all_of_it(elastic: Elastic, store: Store) -> None:
    put_all(store)
    assert elastic("pool", "-o", "name").out.split() == ["gpu-1", "left", "plain", "quiet"]
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in json.loads(elastic("pool", "-o", "json").out)}
    one = rows["gpu-1"]
    assert (one["state"], one["gpus_free"], one["jobs"], one["instances"]) == ("ready", [1], ["digits"], [NAME])
    assert (rows["plain"]["cores_free"], rows["plain"]["gpus"], rows["left"]["instances"]) == (6, [], [])


def test_a_machine_whose_report_cannot_be_read_is_named_beside_the_others(elastic: Elastic, store: Store) -> None:
    put_all(store)
    store.put(layout.pool_machine_key("later"), b"{}")
    outcome = elastic("pool")
    assert "later is left out, and takes no orders: control/pool/machines/later.json" in " ".join(outcome.err.split())
    assert "4 machines" in outcome.err
    rows = {row["name"]: row["state"] for row in json.loads(elastic("pool", "-o", "json").out)}
    assert (rows["later"], rows["plain"]) == ("unreadable", "ready")
    found = check_pool(store, Invocation(environ={}))
    assert (found.verdict, found.seen) == (Verdict.WARN, "what later reports cannot be read")


def test_what_no_job_knows_of_is_an_orphan_and_reap_calls_it_off(elastic: Elastic, store: Store) -> None:
    store_identity(store, nonce)  # a controller has been here
    put_all(store)
    rows = json.loads(elastic("instances", "-o", "json").out)
    assert [(row["instance"], row["orphan"], row["usd_per_hour"], row["where"]) for row in rows] == [
        (NAME, True, 0.0, "the pool, gpu-1"),
        ("other-g1-n0-a0", True, 0.0, "the pool, plain"),
    ]
    assert elastic("reap", "--yes").out.split() == [NAME, "other-g1-n0-a0"]
    orders = document.load(store, layout.POOL_ORDERS, Orders)
    assert orders is not None
    assert (orders.value.current, sorted(orders.value.ended)) == ({}, [NAME, "other-g1-n0-a0"])


def test_the_doctor_tells_of_the_pool(store: Store) -> None:
    invocation = Invocation(environ={})
    assert "no machine has joined" in check_pool(store, invocation).seen
    put_all(store)
    found = check_pool(store, invocation)
    assert (found.verdict, found.seen) == (
        Verdict.WARN,
        "3 machines; 1 of 2 GPUs and 6 of 8 cores free; nothing is heard of quiet",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "elastic agent --join URL"),
        (["--join", "file:///s", "--job", "digits"], "leave out --job"),
        (["--join", "file:///s", "--image", "i", "--cloud", "ec2", "--age", "1s"], "leave out --image, --age, --cloud"),
        (["--join", "file:///s", "--store", "file:///t", "--allowance", "1h"], "leave out --store, --allowance"),
        (["--instance", "i", "--workers", "1"], "needs --job, --work-dir, --idle-exit, --cores too"),
        (["--instance", "i", "--name", "one"], "--name and --label go with --join"),
        (["--join", "STORE", "--name", "a b"], "'a b' is no name of a machine"),
        (["--join", "STORE", "--gpus", "9"], "there is no GPU 9"),
    ],
)
def test_what_makes_no_sense_to_the_agent_is_refused_in_a_sentence(
    elastic: Elastic, store: Store, arguments: list[str], message: str
) -> None:
    outcome = elastic("agent", *[store.url if each == "STORE" else each for each in arguments])
    assert outcome.code == 2
    assert message in outcome.err
