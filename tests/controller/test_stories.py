"""Whole stories of a job, by the real controller on a store in memory, with agents that are made up (`world`)."""

from datetime import timedelta

import pytest

from orchestrator.jobs import layout
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.controller.world import TOTAL_STEPS, World, undisturbed_result
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


def test_a_new_controller_finds_what_is_over_settled_and_writes_nothing() -> None:
    world = World().run()
    world.tick()
    world.controller = world.new_controller()
    written, keys = len(world.writes), [entry.key for entry in world.store.list("")]
    for _ in range(3):
        assert world.controller.tick(world.epoch) == 0
    assert [write for write in world.writes[written:] if "events/" not in write] == []
    assert [entry.key for entry in world.store.list("")] == keys
    assert world.controller._settled == {"digits"}


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
    assert len(world.writes) == written
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


def test_jobs_do_not_disturb_each_other() -> None:
    """One that another version wrote, or that somebody altered, is complained of; the others go on."""
    world = World()
    world.store.create(layout.spec_key("aaa"), b'{"name": "aaa", "colour": "red"}')
    world.store.create(layout.record_key("aaa"), world.record.model_dump_json().encode())
    world.store.create(layout.record_key("bbb"), b"garbage")
    world.store.create(layout.spec_key("ccc"), b"{}")
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
