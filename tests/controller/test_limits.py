"""Deadline and budget: what is reached ends the job gently, and what it has cost is known to the cent."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.controller.budget import DRAIN_BEFORE_S, EXTEND_AT_LEAST_S
from orchestrator.controller.observation import LaunchFailure
from orchestrator.jobs import layout
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.instances import LEAVE_WITHIN_S
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.store.protocol import ReplyLost, StoreError
from tests.controller.builders import SITUATIONS, START, Scene, training
from tests.controller.test_wishes import finish
from tests.controller.world import World
from tests.support.interposed import InterposedStore, Operation
from tests.support.specs import job_spec


def test_at_the_deadline_a_job_that_trains_checkpoints_and_fails() -> None:
    scene = training(job_spec(limits={"deadline": 600.0}))
    scene.pass_time(599.9).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    scene.pass_time(0.1).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING)
    scene.commit(40).exit("drained", step=40)
    assert scene.is_in(JobPhase.FAILED)
    assert scene.record.reason == "the deadline of 600 s after submit has passed"
    assert scene.record.committed_step == 40
    assert scene.alive() == set()


def test_a_clock_that_jumps_ends_no_job_and_makes_no_time_free_also_when_a_read_fails() -> None:
    for jump_s in (7200.0, -7200.0):
        world = World(job_spec(limits={"deadline": 3600.0, "max_cost": 5.0}))
        world.run(until=lambda world: world.step == 3)
        counted_s, at_s = world.record.age_s, world.clock.elapsed_s
        world.clock.jumped_s = jump_s
        for watch in world.controller._watches.values():
            watch.doubt()
        world.run()
        assert world.record.phase is JobPhase.SUCCEEDED
        assert world.record.age_s == pytest.approx(counted_s + world.clock.elapsed_s - at_s, abs=10.0)


@pytest.mark.parametrize("applied", [True, False])
def test_a_clock_that_jumps_counts_for_nothing_after_a_write_of_which_nobody_knows(applied: bool) -> None:
    """Nor where it cannot be read back: what is read later shows whose it is."""
    world = World(job_spec(limits={"deadline": 3600.0}))
    world.run(until=lambda world: world.step == 3)
    store = world.controller._store
    assert isinstance(store, InterposedStore)
    around, lost = store.around, list[str]()

    def lose(operation: Operation, key: str, call: Callable[[], object]) -> object:
        if key != layout.record_key("digits") or len(lost) == 2:
            return around(operation, key, call)
        if operation == "replace" and not lost:
            lost.append("reply")
            if applied:
                around(operation, key, call)
            raise ReplyLost("no reply")
        if operation == "get" and lost:
            lost.append("read-back")
            raise StoreError("503")
        return around(operation, key, call)

    store.around = lose
    world.ask("pause")
    world.tick()
    world.tick()
    assert lost == ["reply", "read-back"]
    world.clock.jumped_s = 7200.0
    world.run(until=lambda world: world.record.phase is JobPhase.PAUSED)
    assert world.record.age_s == pytest.approx(world.clock.elapsed_s, abs=2.0)


def test_a_job_that_is_over_grows_no_older() -> None:
    world = World().run()
    age_s = world.record.age_s
    world.clock.jumped_s = 7200.0
    world.ask("cancel")
    world.run(until=lambda world: bool(world.record.requests_done))
    assert world.record.age_s == age_s


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_the_deadline_ends_a_job_wherever_it_stands(situation: Callable[[object], Scene]) -> None:
    scene = situation(job_spec(limits={"deadline": 600.0})).pass_time(600).settle()
    if scene.record.generation is not None and scene.generation.phase is GenerationPhase.DRAINING:
        scene.exit("drained", step=40)
    assert scene.is_in(JobPhase.FAILED)
    assert "deadline" in scene.record.reason
    assert scene.alive() == set()


def test_who_finishes_at_the_deadline_has_finished() -> None:
    scene = training(job_spec(limits={"deadline": 600.0})).pass_time(600).settle()
    scene.commit(100).exit("finished", step=100)
    assert scene.is_in(JobPhase.SUCCEEDED)


def test_the_budget_ends_it_early_enough_that_what_was_paid_for_is_committed() -> None:
    scene = training(job_spec(limits={"max_cost": 10.0}), price_usd_per_hour=2.0)
    paid_s = 5 * 3600
    while scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING):
        assert scene.elapsed_s < paid_s
        scene.pass_time(5).settle()
    assert paid_s - DRAIN_BEFORE_S - 2 * EXTEND_AT_LEAST_S < scene.elapsed_s < paid_s - LEAVE_WITHIN_S
    assert "max_cost $10.00 pays for no more" in (scene.generation.drain_reason or "")
    scene.pass_time(20).commit(40).exit("drained", step=40)
    assert scene.is_in(JobPhase.FAILED)
    assert scene.record.committed_step == 40
    assert scene.alive() == set()
    assert scene.record.spent_usd < 10


def test_a_budget_is_not_used_up_while_what_comes_up_or_goes_may_give_some_of_it_back() -> None:
    scene = training(job_spec(limits={"max_cost": 1.0}), price_usd_per_hour=1.0).ask("resize", 2).settle()
    [old], new = scene.record.uses[:1], scene.record.uses[1]
    scene.pass_time((old.allowance_s or 0.0) - DRAIN_BEFORE_S + 1)
    scene.says(old.instance, "running").says(new.instance, "booting").settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert scene.record.limit is None
    scene.says(new.instance, "ready").settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING)
    scene.commit(40).exit("drained", step=40)
    assert scene.generation.instances == (new.instance,)


def test_spending_is_the_sum_over_all_instances_from_the_intent_to_gone() -> None:
    scene = training(job_spec(instances=2), price_usd_per_hour=3.0)
    assert scene.record.spend_usd(START + timedelta(hours=1)) == pytest.approx(6.0)
    scene.pass_time(1800).exit("failed", message="boom").pass_time(1800)
    scene.commit(100).exit("finished", step=100)
    assert scene.record.uses == ()
    assert scene.record.spend_usd(scene.now + timedelta(days=9)) == pytest.approx(6.0)


def test_during_a_resize_both_sizes_cost() -> None:
    scene = training(price_usd_per_hour=1.0).ask("resize", 2).settle().pass_time(3600)
    assert scene.record.spend_usd(scene.now) == pytest.approx(2.0)
    scene.come_up().commit(40).exit("drained", step=40).pass_time(3600)
    assert scene.record.spend_usd(scene.now) == pytest.approx(3.0)


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_jumps_neither_ends_a_job_nor_gives_it_endless_time(days: int) -> None:
    scene = training(job_spec(limits={"deadline": 3600.0, "max_cost": 2.0}), price_usd_per_hour=1.0)
    scene.pass_time(600).settle().jump(days * 86_400).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert scene.record.age_s <= 600
    scene.pass_time(2900).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    scene.pass_time(100).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING)
    scene.exit("drained", step=40)
    assert scene.record.spent_usd == pytest.approx(1.0)


@pytest.mark.parametrize("days", [-1, 1])
def test_the_next_leader_whose_clock_is_wrong_by_a_day_counts_an_hour_at_most(days: int) -> None:
    scene = training(job_spec(limits={"deadline": 6 * 3600.0}), price_usd_per_hour=1.0)
    scene.epoch = 2
    scene.pass_time(60).jump(days * 86_400).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert scene.record.age_s <= 3600
    assert scene.record.spend_usd(scene.now) <= 1.0


@pytest.mark.parametrize("days", [-1, 1])
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_after_a_jump_a_job_goes_on_within_minutes_wherever_it_stands(
    situation: Callable[[object], Scene], days: int
) -> None:
    scene = situation(job_spec(limits={"deadline": 6 * 3600.0, "max_cost": 50.0})).jump(days * 86_400).settle()
    if scene.record.wanted == "pause":
        scene.ask("resume")
    assert finish(scene.pass_time(120)).is_in(JobPhase.SUCCEEDED)


def test_a_drain_that_hangs_is_noticed_though_the_clock_jumped_back() -> None:
    scene = training().ask("pause").settle().jump(-86_400)
    [instance] = scene.generation.instances
    scene.says(instance, "draining").pass_time(200).says(instance, "draining", stalled_s=200.0).settle()
    assert scene.is_in(JobPhase.PAUSED)


@pytest.mark.parametrize("days", [-1, 1])
def test_a_rung_that_could_not_be_had_is_tried_again_after_ten_minutes_though_the_clock_jumped(days: int) -> None:
    scene = training()
    scene.refusals[2] = LaunchFailure("no capacity", kind="capacity")
    scene.train(20, percent=95.0, samples=60)
    assert scene.kinds()[-1] is EventKind.NO_CAPACITY
    scene.refusals.clear()
    scene.jump(days * 86_400).train(21, percent=95.0, samples=60)
    scene.pass_time(601).train(30, percent=95.0, samples=120)
    assert scene.upcoming.rung == 1


def test_a_pause_that_drains_when_the_allowance_runs_low_is_a_pause_and_no_end_of_the_budget() -> None:
    scene = training(job_spec(limits={"max_cost": 0.25}), price_usd_per_hour=1.0)
    [use] = scene.record.uses
    assert use.allowance_s is not None
    scene.pass_time(use.allowance_s - DRAIN_BEFORE_S - scene.record.age_s - 5.0).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    scene.ask("pause").settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING)
    scene.pass_time(20.0).settle()
    assert scene.record.limit is None
    scene.commit(40).exit("drained", step=40)
    assert scene.is_in(JobPhase.PAUSED)
