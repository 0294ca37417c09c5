"""Every decision that had events is kept with all that it saw, and replays to the same answer."""

import json
from collections.abc import Callable
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


Place = tuple[int, int]


def kept(world: World) -> list[Place]:
    """Version and epoch of each."""
    places = [layout.parse_decision(entry.key) for entry in world.store.list(layout.decisions_prefix("digits"))]
    return [place for place in places if place is not None]


def altered(world: World, place: Place, **changes: Any) -> list[Verdict]:
    """The verdicts once a kept decision was altered; it is put back afterwards."""
    key = layout.decision_key("digits", *place)
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
        decision = load_decision(world.store, "digits", event.decision, event.epoch)
        assert decision is not None
        assert (decision.epoch, decision.now) == (event.epoch, event.at)
        assert event.number in [decided.number for decided in decision.decided.outbox]
    assert {(event.decision, event.epoch) for event in by_controllers} == set(kept(world))


def test_each_replays_to_the_same_answer(world: World) -> None:
    verdicts = list(replay(world.store, "digits"))
    assert [(verdict.decision, verdict.epoch) for verdict in verdicts] == kept(world)
    assert [verdict for verdict in verdicts if verdict.differences] == []


def test_what_was_seen_otherwise_or_answered_otherwise_is_found_out(world: World) -> None:
    (grown,) = [event for event in world.events if event.kind is EventKind.SCALE_UP]
    assert grown.decision is not None
    place = grown.decision, grown.epoch
    decision = load_decision(world.store, "digits", *place)
    assert decision is not None
    decided = decision.decided.model_copy(update={"reason": "another"}).model_dump(mode="json")
    (verdict,) = altered(world, place, decided=decided)
    assert verdict.decision == grown.decision
    assert verdict.differences == ("reason: 'another' became 'running on 2 workers'",)
    (verdict,) = altered(world, place, effects=[])
    assert verdict.differences[0].startswith("effects: none became Launch")
    calm = json.loads(decision.model_dump_json())["instances"]
    for view in calm.values():
        if view["heartbeat"] and view["heartbeat"]["utilization"]:
            view["heartbeat"]["utilization"]["percents"] = [50.0] * 10
    (verdict,) = altered(world, place, instances=calm)
    assert any(difference.startswith("outbox: ") for difference in verdict.differences)


def test_one_that_cannot_be_read_is_told_and_hides_no_other(world: World) -> None:
    first = kept(world)[0]
    (verdict,) = altered(world, first, record="nonsense")
    assert (verdict.decision, verdict.epoch) == first
    assert "is no decision that this version can read" in verdict.differences[0]


def test_the_trainers_configuration_is_not_kept_again_and_again(world: World) -> None:
    for place in kept(world):
        found = world.store.get(layout.decision_key("digits", *place))
        assert found is not None
        assert b'"labelled_batch"' not in found.body


def test_a_leader_that_stood_still_overwrites_no_decision_of_the_one_that_followed() -> None:
    """Just before it keeps its own, the other leads, decides on the same version, and writes the record."""
    world = World()
    first = world.controller
    stood_still = False

    def stand_still(_number: int, call: Callable[[], None]) -> None:
        nonlocal stood_still
        if not stood_still and "/decisions/" in world.writes[-1]:
            stood_still = True
            world.clock.elapsed_s += 60
            world.controller = world.new_controller()
            world.controller.tick(world.epoch)
        call()

    world.at_write = stand_still
    first.tick(1)
    assert [epoch for _, epoch in kept(world)][:2] == [1, 2], "two of one version"
    told = next(event for event in world.events if event.decision is not None)
    assert (told.decision, told.epoch) == kept(world)[1]
    decision = load_decision(world.store, "digits", *kept(world)[1])
    assert decision is not None
    assert told in decision.decided.outbox
    assert [verdict for verdict in replay(world.store, "digits") if verdict.differences] == []


def test_what_events_tell_of_and_is_not_kept_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> list[Place]:
        return [(v.decision, v.epoch) for v in replay(world.store, "digits") if "missing" in "".join(v.differences)]

    oldest, *others = kept(world)
    body = world.store.get(layout.decision_key("digits", *oldest))
    assert body is not None
    world.store.delete(layout.decision_key("digits", *oldest))
    try:
        assert missing() == [oldest]
        monkeypatch.setattr("orchestrator.controller.replay.DECISIONS_KEPT", len(others))
        assert missing() == [], "it may have been collected"
    finally:
        world.store.put(layout.decision_key("digits", *oldest), body.body)
