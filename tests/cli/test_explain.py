"""The story of a job, told from what the real controller wrote down, and what holds now."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.cli.moments import parse_moment
from orchestrator.errors import UsageError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_state, submit_job
from orchestrator.jobs.events import Event, EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import InstanceUse
from orchestrator.reading.standing import standing
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import (
    NOW,
    beat,
    change,
    finish,
    nonce,
    put_checkpoint,
    put_pending,
    put_training,
    spec_named,
)
from tests.controller.world import World
from tests.support.specs import job_spec

SCALING = {"window": 3.0, "warm_up": 1.0, "cooldown": 5.0}


def bring(world: World, store: Store) -> None:
    """Put what a world's bucket holds into the store of the test."""
    for entry in world.store.list(""):
        found = world.store.get(entry.key)
        assert found is not None
        store.put(entry.key, found.body)


@pytest.fixture
def eventful(store: Store) -> Store:
    """A job that grew, lost its workers, shrank, and was finished."""
    world = World(job_spec(scaling=SCALING))
    world.fleet.percent = {1: 95.0, 2: 20.0}
    world.run(until=lambda world: world.record.resizes == 1 and world.step > 12)
    for agent in world.fleet.agents.values():
        agent.fail()
    bring(world.run(), store)
    return store


def decisions(elastic: Elastic, *options: str) -> list[dict[str, Any]]:
    outcome = elastic("explain", "digits", "-o", "json", *options)
    assert outcome.code == 0
    told: list[dict[str, Any]] = json.loads(outcome.out)["decisions"]
    return told


# --- the story --------------------------------------------------------------------------------------------------------


def test_each_decision_is_told_once_with_all_its_events_in_order(eventful: Store, elastic: Elastic) -> None:
    told = decisions(elastic)
    numbers = [event["number"] for decision in told for event in decision["events"]]
    assert numbers == list(range(1, len(numbers) + 1))
    kinds = [decision["kind"] for decision in told]
    assert kinds[:4] == ["submitted", "provisioning", "starting", "training"]
    assert kinds[-1] == "succeeded"
    assert {"scale_up", "worker_failed", "scale_down"} < set(kinds)


def test_a_resize_is_told_with_what_was_measured_and_why_nothing_else_was_done(
    eventful: Store, elastic: Elastic
) -> None:
    grown, *_ = decisions(elastic, "--kind", "scale_up")
    assert grown["message"] == "utilisation 95.0 % is above 80 % over 3 s: from 1 to 2 workers"
    assert "mean utilisation 95.0 % (CPU) over 3s, of 4 samples since the first step" in grown["seen"]
    assert "no resize before; cooldown 5s" in grown["seen"]
    assert grown["decided"] == ["provisioning: launching what rung 1 needs while training goes on"]
    assert grown["done"] == ["launch digits-g2-n0-a0"]
    assert grown["otherwise"] == ["not left as it is: that is for 30 to 80 %"]


def test_a_failure_heads_its_decision_with_what_is_lost_and_what_follows(eventful: Store, elastic: Elastic) -> None:
    failed, *_ = decisions(elastic, "--kind", "worker_failed")
    assert failed["kind"] == "worker_failed"
    assert any("is committed: 3 steps to do again" in line for line in failed["seen"])
    assert any(line.startswith("provisioning: starting again from step") for line in failed["decided"])
    assert failed["otherwise"] == ["not given up: 1 failure in a row, and limits.max_failures allows more"]


def test_the_page_answers_why_it_shrank(eventful: Store, elastic: Elastic) -> None:
    page = elastic("explain", "digits", "--kind", "scale_down").out
    headline, *rest = page.splitlines()
    assert "scale_down  utilisation 20.0 % is below 30 % over 3 s: from 2 to 1 worker" in headline
    assert any(line.startswith("  otherwise  not left as it is: that is for 30 to 80 %") for line in rest)
    assert "now: succeeded  finished at step 30" in page
    assert '"utilization_percent": 20.0' in elastic("explain", "digits", "--kind", "scale_down", "-o", "wide").out


def alter(store: Store, told: dict[str, Any], *, by: int | None = None, **changes: Any) -> None:
    """Change what is kept of a decision, or keep one of another leader for the same version."""
    found = store.get(layout.decision_key("digits", told["decision"], told["epoch"]))
    assert found is not None
    key = layout.decision_key("digits", told["decision"], by or told["epoch"])
    store.put(key, json.dumps({**json.loads(found.body), **changes}).encode())


def test_what_another_leader_decided_in_vain_is_not_told(eventful: Store, elastic: Elastic) -> None:
    grown, *_ = decisions(elastic, "--kind", "scale_up")
    alter(eventful, grown, by=7, epoch=7, effects=[{"kind": "Terminate", "what": {"instance": "mine"}}])
    told, *_ = decisions(elastic, "--kind", "scale_up")
    assert told["done"] == ["launch digits-g2-n0-a0"]


def test_where_a_decision_cannot_be_read_its_events_tell_it(eventful: Store, elastic: Elastic) -> None:
    grown, *_ = decisions(elastic, "--kind", "scale_up")
    alter(eventful, grown, record="nonsense")
    outcome = elastic("explain", "digits", "--kind", "scale_up")
    assert "that decision is told by its events alone" in outcome.err
    assert "mean utilisation 95.0 %" in outcome.out


def test_verify_decides_everything_again(eventful: Store, elastic: Elastic) -> None:
    outcome = elastic("explain", "digits", "--verify")
    assert (outcome.code, outcome.out) == (0, "")
    assert "replayed, each to the same answer" in outcome.err
    grown, *_ = decisions(elastic, "--kind", "scale_up")
    alter(eventful, grown, effects=[])
    outcome = elastic("explain", "digits", "--verify")
    assert outcome.code == 1
    assert outcome.out.startswith(f"decision {grown['decision']}: effects: none became Launch")
    verdicts = json.loads(elastic("explain", "digits", "--verify", "-o", "json").out)
    assert [verdict["decision"] for verdict in verdicts if verdict["differences"]] == [grown["decision"]]


def test_verify_says_what_is_missing(eventful: Store, elastic: Elastic) -> None:
    grown, *_ = decisions(elastic, "--kind", "scale_up")
    eventful.delete(layout.decision_key("digits", grown["decision"], grown["epoch"]))
    outcome = elastic("explain", "digits", "--verify")
    assert outcome.code == 1
    number = grown["events"][0]["number"]
    assert outcome.out.startswith(f"decision {grown['decision']}: it is missing: event {number} (scale_up) tells of it")


def test_where_no_decision_is_kept_there_is_nothing_to_verify(elastic: Elastic, store: Store) -> None:
    put_training(store)
    outcome = elastic("explain", "digits", "--verify")
    assert (outcome.code, outcome.err) == (0, "digits: no decision is kept.\n")


def test_since_leaves_out_what_was_before(eventful: Store, elastic: Elastic) -> None:
    told = decisions(elastic)
    late = told[-3]["at"]
    assert [decision["at"] for decision in decisions(elastic, "--since", late)] == [d["at"] for d in told[-3:]]
    assert decisions(elastic, "--since", "1s") == []


def test_of_a_long_story_the_latest_is_told_unless_all_is_asked_for(elastic: Elastic, store: Store) -> None:
    first = put_pending(store).last_event + 1
    for number in range(130):
        at = NOW + timedelta(seconds=number)
        note = Event(number=first + number, at=at, epoch=1, generation=1, kind=EventKind.NOTE, message=f"note {number}")
        store.put(layout.event_key("digits", note.number), note.model_dump_json().encode())
    change(store, "digits", last_event=first + 129)
    outcome = elastic("explain", "digits")
    assert "earlier events not told: elastic explain digits --all" in outcome.err
    assert "note 129" in outcome.out
    assert "note 5\n" not in outcome.out
    assert "note 5\n" in elastic("explain", "digits", "--all").out
    assert len(decisions(elastic, "--kind", "note")) == 130


def test_an_unknown_job_moment_or_kind_is_refused(eventful: Store, elastic: Elastic) -> None:
    assert "did you mean 'digits'" in elastic("explain", "digit").err
    outcome = elastic("explain", "digits", "--since", "yesterday")
    assert outcome.code == 2
    assert "'yesterday' is no moment; write 10m for ten minutes ago" in outcome.err
    outcome = elastic("explain", "digits", "--kind", "scale-down")
    assert outcome.code == 2
    assert "there is no event 'scale-down': did you mean 'scale_down'?" in outcome.err


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10m", datetime(2026, 11, 24, 11, 50, tzinfo=UTC)),
        ("2026-11-23T08:00+00:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
    ],
)
def test_moments(written: str, meant: datetime) -> None:
    assert parse_moment(written, datetime(2026, 11, 24, 12, tzinfo=UTC)) == meant


def test_a_time_of_day_is_the_last_time_that_the_clock_here_showed_it() -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC).astimezone()
    for minutes in (1, 60 * 23):
        then = now - timedelta(minutes=minutes)
        assert parse_moment(f"{then:%H:%M}", now) == then
    with pytest.raises(UsageError):
        parse_moment("25:00", now)


# --- what holds now ---------------------------------------------------------------------------------------------------


def now_of(store: Store, at: datetime = NOW) -> dict[str, str]:
    return {answer.question: answer.answer for answer in standing(load_state(store, "digits"), at)}


@pytest.fixture
def bucket() -> MemoryStore:
    return MemoryStore()


@pytest.mark.parametrize(
    ("percents", "changes", "question", "words"),
    [
        ((95.0,) * 80, {}, "what is due", "from 2 to 4 workers"),
        (
            (95.0,) * 80,
            {"last_resize_age_s": 48.0},
            "why it does not grow",
            "the last resize was 12 s ago (cooldown 120 s)",
        ),
        (
            (95.0,) * 80,
            {"unavailable_rungs": {2: NOW + timedelta(minutes=5)}},
            "why it does not grow",
            "rung 2 could not be had lately",
        ),
        (
            (10.0,) * 80,
            {"last_resize_age_s": 48.0},
            "why it does not shrink",
            "below 30 %",
        ),
        ((50.0,) * 80, {}, "why it does not grow or shrink", "between 30 and 80 %"),
        ((95.0,) * 30, {}, "why it does not grow or shrink", "20 of the 60 s that are looked at have been measured"),
        ((95.0,) * 80, {"pinned_rung": 1}, "why it does not grow or shrink", "a person holds it at 2 workers"),
    ],
)
def test_why_a_job_that_trains_keeps_its_size(
    bucket: MemoryStore, percents: tuple[float, ...], changes: dict[str, object], question: str, words: str
) -> None:
    put_training(bucket, percents=percents)
    change(bucket, "digits", **changes)
    assert words in now_of(bucket)[question]


def test_it_says_what_is_safe_and_what_would_be_done_again(bucket: MemoryStore) -> None:
    put_training(bucket)
    put_checkpoint(bucket, "digits", {"teacher.pt": b""}, step=400)
    assert now_of(bucket)["what is safe"] == "step 400, 12 steps to do again if all were lost now"


def test_a_starved_job_is_told_that_size_would_not_help(bucket: MemoryStore) -> None:
    put_training(bucket)
    beat(bucket, "digits", number=2, data_wait=0.34)
    assert "waits for images 34 % of the time" in now_of(bucket)["what keeps it slow"]


def test_why_a_job_does_not_run(bucket: MemoryStore) -> None:
    put_pending(bucket)
    question = "why it does not run"
    assert "no controller has decided on its instances yet" in now_of(bucket)[question]
    change(bucket, "digits", reason="out of memory", retry_at=NOW + timedelta(seconds=4), failures=2)
    assert now_of(bucket)[question] == "it is tried again in 4s: out of memory"
    assert now_of(bucket)["failures"] == "2 in a row without progress, of at most 3"
    change(bucket, "digits", phase=JobPhase.PAUSED, wanted="pause", retry_at=None)
    assert "elastic resume digits" in now_of(bucket)[question]


def test_why_a_new_generation_does_not_start_yet(bucket: MemoryStore) -> None:
    world = World()
    world.run(until=lambda world: world.record.upcoming is not None)
    bring(world, bucket)
    assert "digits-g1-n0-a0" in now_of(bucket, world.clock.now())["why it does not run"]


def test_how_a_job_ended_and_what_it_cost(bucket: MemoryStore) -> None:
    put_training(bucket)
    finish(bucket, "digits", JobPhase.FAILED, "4 failures in a row without progress")
    change(bucket, "digits", spent_usd=1.5)
    assert now_of(bucket) == {
        "how it ended": "4 failures in a row without progress",
        "budget": "$1.50 spent, without a limit (limits.max_cost)",
    }


def test_the_page_says_whether_anybody_looks_after_it(elastic: Elastic, store: Store) -> None:
    put_training(store)
    assert "no controller is alive: start one with: elastic daemon" in elastic("explain", "digits").out


def test_what_it_may_cost_yet_and_when_it_costs_no_more_without_a_controller(bucket: MemoryStore) -> None:
    spec = spec_named("digits", "limits.max_cost=5", "limits.deadline=1h")
    submit_job(bucket, spec, NOW - timedelta(seconds=60), nonce)
    use = InstanceUse(instance="digits-g1-n0-a0", usd_per_hour=1.0, since=NOW, allowance_s=1800.0, lived_s=360.0)
    change(bucket, "digits", uses=(use,), spent_usd=0.5, counted_at=NOW, age_s=60.0)
    now = now_of(bucket)
    assert now["budget"] == "$0.60 of $5.00 spent; what is there now may cost $0.40 more at the very most"
    assert now["when it costs no more"].startswith("its instances end themselves within 24m 00s, unless")
    assert now["deadline"] == "in 59m 00s"
    change(bucket, "digits", uses=(use.model_copy(update={"allowance_s": None}),))
    assert "live until the job is over" in now_of(bucket)["when it costs no more"]


def test_what_it_may_cost_an_hour(bucket: MemoryStore) -> None:
    submit_job(bucket, spec_named("digits", "limits.max_hourly_cost=2.5"), NOW - timedelta(seconds=60), nonce)
    use = InstanceUse(instance="digits-g1-n0-a0", usd_per_hour=1.0, since=NOW)
    change(bucket, "digits", uses=(use,))
    assert now_of(bucket)["an hour"] == "$1.00 now; sizes dearer than $2.50 are not chosen"


def test_a_limit_that_is_reached_is_what_is_due(bucket: MemoryStore) -> None:
    submit_job(bucket, spec_named("digits", "limits.deadline=1h"), NOW - timedelta(minutes=61), nonce)
    change(bucket, "digits", counted_at=NOW, age_s=3660.0)
    assert "the deadline of 3600 s after submit has passed" in now_of(bucket)["what is due"]
