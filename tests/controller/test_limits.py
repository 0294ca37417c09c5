"""Deadline and budget: what is reached ends the job gently, and what it has cost is known to the cent."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.jobs.phases import GenerationPhase, JobPhase
from tests.controller.builders import SITUATIONS, START, Scene, training
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


def test_the_budget_ends_it_before_it_is_overdrawn_by_much() -> None:
    scene = training(job_spec(limits={"max_cost": 1.0}), price_usd_per_hour=2.0)
    scene.pass_time(1799).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    scene.pass_time(1).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING)
    scene.exit("drained", step=40)
    assert scene.is_in(JobPhase.FAILED)
    assert scene.record.reason == "$1.00 are spent of max_cost $1.00"


def test_spending_is_the_sum_over_all_instances_from_first_seen_to_gone() -> None:
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


def test_a_clock_that_jumps_back_costs_nothing() -> None:
    scene = training(price_usd_per_hour=1.0).pass_time(-3600)
    assert scene.record.spend_usd(scene.now) == 0
    scene.commit(100).exit("finished", step=100)
    assert scene.record.spent_usd == 0
