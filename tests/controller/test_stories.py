"""Whole stories of a job, by the real controller on a store in memory, with agents that are made up (`world`)."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

import pytest

from orchestrator.controller.decide import decide
from orchestrator.controller.decisions import load_decision
from orchestrator.controller.observe import TELL_SILENCE_AFTER_S
from orchestrator.fleets.protocol import FleetError, LaunchRequest, Sighting
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_state
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.pace import QUICK
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.requests import Request, send_request
from orchestrator.jobs.status import job_status
from tests.controller.world import TICK_S, TOTAL_STEPS, World, undisturbed_result
from tests.support.specs import job_spec

SCALING = {"window": 3.0, "warm_up": 1.0, "cooldown": 5.0}


def test_from_submit_to_success() -> None:
    world = World().run()
    record = world.record
    assert (record.phase, record.committed_step, record.lost_steps) == (JobPhase.SUCCEEDED, TOTAL_STEPS, 0)
    assert world.result() == undisturbed_result()
    assert world.head.final
    assert world.fleet.launches == ["digits-g1-n0-a0"]
    assert [event.kind for event in world.events] == [
        EventKind.SUBMITTED,
        EventKind.PROVISIONING,
        EventKind.STARTING,
        EventKind.TRAINING,
        EventKind.GENERATION_ENDED,
        EventKind.SUCCEEDED,
    ]


def test_what_is_over_leaves_nothing_of_its_instances_and_is_looked_at_no_more() -> None:
    world = World().run()
    world.tick()
    assert world.objects() == []
    written = len(world.writes)
    for _ in range(20):
        assert world.controller.tick(world.epoch) == 0
    assert len(world.writes) == written


def test_what_is_over_waits_for_nobody_and_costs_the_next_controller_nothing() -> None:
    world = World().run()
    world.tick()
    assert list(world.store.list(layout.TODO)) == []
    world.controller = world.new_controller()
    written, keys = len(world.writes), [entry.key for entry in world.store.list("")]
    for _ in range(3):
        assert world.controller.tick(world.epoch) == 0
    assert world.writes[written:] == []
    assert [entry.key for entry in world.store.list("")] == keys


def test_a_mark_that_stayed_when_a_controller_died_costs_a_look_and_goes() -> None:
    world = World().run()
    world.tick()
    record = world.record
    world.store.put(layout.todo_key("digits"), b"stayed")
    world.store.put(layout.heartbeat_key("digits-g1-n0-a0"), b"{}")
    world.controller = world.new_controller()
    assert world.controller.tick(world.epoch) == 0
    assert world.record == record
    assert list(world.store.list(layout.TODO)) == []
    assert world.objects() == []


def test_a_request_to_a_job_that_is_over_is_answered_and_one_to_no_job_is_removed() -> None:
    world = World().run()
    world.tick()
    world.ask("pause")
    send_request(world.store, "nobody", "cancel", now=world.clock.now(), by="ada", nonce=world.nonce)
    world.store.put(layout.request_key("digits", "altered"), b"{")
    world.tick()
    assert world.events[-1].kind is EventKind.REQUEST_REFUSED
    assert list(world.store.list(layout.TODO)) == []


def test_a_request_is_heard_at_once_and_without_a_ring_after_a_while() -> None:
    world = World(job_spec(name="digits")).run(until=lambda world: world.step == 3)
    key = layout.request_key("digits", "20261124T120000-quiet")
    world.store.create(key, Request(id="", kind="pause", at=world.clock.now(), by="ada").model_dump_json().encode())
    world.run(until=lambda world: world.record.wanted == "pause", within_s=QUICK.scan_s + 2 * TICK_S)
    world.ask("resume")
    world.run(until=lambda world: world.record.wanted == "run", within_s=2 * TICK_S)


def test_the_mark_of_a_job_that_was_submitted_anew_is_left_alone() -> None:
    """Its name was that of a job that has just been removed, by a controller that does not know it yet."""
    world = World()

    def submitted_anew(_number: int, call: Callable[[], None]) -> None:
        if world.writes[-1] == f"delete {layout.todo_key('digits')}":
            world.store.put(layout.todo_key("digits"), b"anew")
        call()

    world.at_write = submitted_anew
    world.run(until=lambda world: f"delete {layout.todo_key('digits')}" in world.writes)
    assert [entry.key for entry in world.store.list(layout.TODO)] == [layout.todo_key("digits")]


def test_busy_workers_make_it_grow_once_and_the_result_is_the_same() -> None:
    world = World(job_spec(scaling=SCALING))
    world.fleet.percent = {1: 95.0, 2: 60.0}
    world.run()
    assert (world.record.phase, world.record.resizes, world.record.lost_steps) == (JobPhase.SUCCEEDED, 1, 0)
    assert world.result() == undisturbed_result()
    assert world.fleet.launches == ["digits-g1-n0-a0", "digits-g2-n0-a0"]
    assert [e.kind for e in world.events].count(EventKind.SCALE_UP) == 1


def test_without_capacity_for_a_resize_it_finishes_as_it_is() -> None:
    world = World(job_spec(scaling=SCALING))
    world.fleet.percent, world.fleet.largest = {1: 95.0}, 1
    world.run()
    assert (world.record.phase, world.record.resizes, world.record.lost_steps) == (JobPhase.SUCCEEDED, 0, 0)
    assert [e.kind for e in world.events].count(EventKind.NO_CAPACITY) == 1
    assert world.fleet.launches == ["digits-g1-n0-a0"]


def test_workers_that_die_cost_the_steps_since_the_last_commit_and_no_more() -> None:
    world = World().run(until=lambda world: world.step == 13)
    world.fleet.agents["digits-g1-n0-a0"].fail()
    world.run()
    assert (world.record.phase, world.record.lost_steps) == (JobPhase.SUCCEEDED, 3)
    assert world.result() == undisturbed_result()
    assert world.fleet.launches == ["digits-g1-n0-a0"]


def test_an_instance_that_is_lost_is_replaced() -> None:
    world = World().run(until=lambda world: world.step == 13)
    world.fleet.terminate("digits-g1-n0-a0")
    world.run()
    assert (world.record.phase, world.record.lost_steps) == (JobPhase.SUCCEEDED, 3)
    assert world.result() == undisturbed_result()
    assert world.fleet.launches == ["digits-g1-n0-a0", "digits-g2-n0-a0"]


def test_pause_frees_everything_and_resume_goes_on_where_it_was() -> None:
    world = World().run(until=lambda world: world.step == 13)
    world.ask("pause")
    world.run(until=lambda world: world.record.phase is JobPhase.PAUSED)
    assert world.fleet.alive() == []
    assert world.controller.tick(world.epoch) == 0, "a daemon may end while all its jobs are paused"
    written = len(world.writes)
    world.clock.elapsed_s += 3600
    world.tick()
    assert [write for write in world.writes[written:] if not write.startswith("delete ")] == [], "but for garbage"
    world.ask("resume")
    world.run()
    assert (world.record.phase, world.record.lost_steps) == (JobPhase.SUCCEEDED, 0)
    assert world.result() == undisturbed_result()


@pytest.mark.parametrize("at_step", [0, 1, 7, TOTAL_STEPS])
def test_cancel_ends_everything(at_step: int) -> None:
    world = World().run(until=lambda world: world.step >= at_step)
    world.ask("cancel")
    world.run(within_s=5)
    assert world.record.phase in ({JobPhase.CANCELLED} if at_step < TOTAL_STEPS else set(JobPhase))
    world.tick()
    assert world.objects() == []


@pytest.mark.parametrize("certain", [True, False], ids=["refused", "no answer that tells"])
def test_a_job_whose_launches_were_all_refused_is_cancelled_at_once(certain: bool) -> None:
    """Where one was not answered for certain, its instance may yet be shown: that is waited for."""
    world = World()
    world.fleet.lag_s, world.fleet.largest = 60.0, 0
    if not certain:
        launch, answers = world.fleet.launch, [FleetError("no answer")]

        def unclear(request: LaunchRequest) -> None:
            if answers:
                raise answers.pop()
            launch(request)

        world.fleet.launch = unclear  # type: ignore[method-assign]
    for _ in range(40):
        world.tick()
    assert world.record.reason.startswith("waiting for capacity")
    world.ask("cancel")
    asked_s = world.clock.elapsed_s
    world.run(until=lambda world: world.record.phase is JobPhase.CANCELLED)
    waited_s = world.clock.elapsed_s - asked_s
    assert (waited_s < 15.0) if certain else (waited_s > 30.0)
    assert world.record.spent_usd == 0.0


def test_jobs_do_not_disturb_each_other() -> None:
    """One that another version wrote, or that somebody altered, is complained of; the others go on."""
    world = World()
    world.store.create(layout.spec_key("aaa"), b'{"name": "aaa", "colour": "red"}')
    world.store.create(layout.record_key("aaa"), world.record.model_dump_json().encode())
    world.store.create(layout.record_key("bbb"), b"garbage")
    world.store.create(layout.spec_key("ccc"), b"{}")
    for job in ("aaa", "bbb", "ccc"):
        world.store.create(layout.todo_key(job), job.encode())
    world.run()
    assert world.record.phase is JobPhase.SUCCEEDED
    for job, why in (("aaa", "another version"), ("bbb", "is no JobRecord")):
        assert len([line for line in world.log if line.startswith(f"{job}:") and why in line]) == 1


def test_no_controller_for_an_hour_does_not_stop_training() -> None:
    world = World().run(until=lambda world: world.step == 3)
    while world.step < TOTAL_STEPS:
        world.tick(lead=False)
    world.tick(lead=False)
    assert world.head.final
    world.clock.elapsed_s += timedelta(hours=1).total_seconds()
    world.run()
    assert (world.record.phase, world.record.generation.number if world.record.generation else 0) == (
        JobPhase.SUCCEEDED,
        1,
    )


def test_a_fleet_that_does_not_answer_for_long_is_told_once_to_whoever_looks_at_the_job() -> None:
    world = World().run(until=lambda world: world.step == 3)
    asked, answers = 0, world.fleet.describe

    def away(_instances: Iterable[str]) -> Mapping[str, Sighting]:
        nonlocal asked
        asked += 1
        raise FleetError(f"the credentials have expired (request {asked})")

    world.fleet.describe = away  # type: ignore[method-assign,assignment]
    for _ in range(int(TELL_SILENCE_AFTER_S / TICK_S) - 1):
        world.tick()
    assert world.record.fleet_trouble == ""
    for _ in range(20):
        world.tick()
    told = [event for event in world.events if event.kind is EventKind.UNRESPONSIVE]
    assert len(told) == 1
    assert told[0].message.startswith("the local fleet does not answer: the credentials have expired")
    status = job_status(load_state(world.store, "digits"), world.clock.now())
    assert status.reason.startswith("the local fleet does not answer: the credentials have expired")

    world.fleet.describe = answers  # type: ignore[method-assign]
    record = world.run().record
    assert (record.phase, record.lost_steps, record.fleet_trouble) == (JobPhase.SUCCEEDED, 0, "")
    notes = [event.message for event in world.events if event.kind is EventKind.NOTE]
    assert notes == ["the local fleet answers again"]
    decision = load_decision(world.store, "digits", told[0].decision or 0, told[0].epoch)
    assert decision is not None
    assert decide(decision.observation(world.spec), decision.now).record == decision.decided
