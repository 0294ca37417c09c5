"""Every decision that had events is kept with all that it saw, and replays to the same answer."""

import json
from typing import Any

import pytest

from orchestrator.controller.decisions import load_decision
from orchestrator.controller.replay import Verdict, replay
from orchestrator.jobs import layout
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.controller.world import World
from tests.support.specs import job_spec

SCALING = {"window": 3.0, "warm_up": 1.0, "cooldown": 5.0}


@pytest.fixture(scope="module")
def world() -> World:
    """A job on two instances that grew, lost workers and controller, was paused, held at a size, and finished."""
    world = World(job_spec(scaling=SCALING, instances=2, limits={"max_cost": 50.0, "deadline": 3600.0}))
    world.fleet.percent = {1: 95.0, 2: 60.0}
    world.run(until=lambda world: world.record.resizes == 1 and world.step > 8)
    for agent in world.fleet.agents.values():
        agent.fail()
    world.controller = world.new_controller()
    world.run(until=lambda world: world.record.failures == 1 and world.record.phase is JobPhase.RUNNING)
    world.ask("pause")
    world.run(until=lambda world: world.record.phase is JobPhase.PAUSED)
    world.ask("resize", 1)
    world.ask("resume")
    return world.run()


def kept(world: World) -> list[int]:
    keys = [entry.key for entry in world.store.list(layout.decisions_prefix("digits"))]
    return [int(key.rpartition("/")[2].removesuffix(".json")) for key in keys]


def altered(world: World, number: int, **changes: Any) -> list[Verdict]:
    """The verdicts once a kept decision was altered; it is put back afterwards."""
    key = layout.decision_key("digits", number)
    found = world.store.get(key)
    assert found is not None
    world.store.put(key, json.dumps({**json.loads(found.body), **changes}).encode())
    try:
        return [verdict for verdict in replay(world.store, "digits") if verdict.differences]
    finally:
        world.store.put(key, found.body)


def test_every_event_names_the_decision_that_it_is_of(world: World) -> None:
    by_controllers = [event for event in world.events if event.kind is not EventKind.SUBMITTED]
    for event in by_controllers:
        assert event.decision is not None
        decision = load_decision(world.store, "digits", event.decision)
        assert decision is not None
        assert (decision.epoch, decision.now) == (event.epoch, event.at)
        assert event.number in [decided.number for decided in decision.decided.outbox]
    assert {event.decision for event in by_controllers} == set(kept(world))


def test_each_replays_to_the_same_answer(world: World) -> None:
    verdicts = list(replay(world.store, "digits"))
    assert [verdict.decision for verdict in verdicts] == kept(world)
    assert [verdict for verdict in verdicts if verdict.differences] == []


def test_what_was_seen_otherwise_or_answered_otherwise_is_found_out(world: World) -> None:
    (grown,) = [event for event in world.events if event.kind is EventKind.SCALE_UP]
    assert grown.decision is not None
    decision = load_decision(world.store, "digits", grown.decision)
    assert decision is not None
    decided = decision.decided.model_copy(update={"reason": "another"}).model_dump(mode="json")
    (verdict,) = altered(world, grown.decision, decided=decided)
    assert verdict.decision == grown.decision
    assert verdict.differences == ("reason: 'another' became 'running on 2 workers'",)
    (verdict,) = altered(world, grown.decision, effects=[])
    assert verdict.differences[0].startswith("effects: none became Launch")
    calm = json.loads(decision.model_dump_json())["instances"]
    for view in calm.values():
        if view["heartbeat"] and view["heartbeat"]["utilization"]:
            view["heartbeat"]["utilization"]["percents"] = [50.0] * 10
    (verdict,) = altered(world, grown.decision, instances=calm)
    assert any(difference.startswith("outbox: ") for difference in verdict.differences)


def test_one_that_cannot_be_read_is_told_and_hides_no_other(world: World) -> None:
    first = kept(world)[0]
    (verdict,) = altered(world, first, record="nonsense")
    assert verdict.decision == first
    assert "is no decision that this version can read" in verdict.differences[0]


def test_the_trainers_configuration_is_not_kept_again_and_again(world: World) -> None:
    for number in kept(world):
        found = world.store.get(layout.decision_key("digits", number))
        assert found is not None
        assert b'"labelled_batch"' not in found.body
