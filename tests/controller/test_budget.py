"""Allowances: what is spent and what may be spent by whatever runs never exceeds the budget, whoever is away."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.controller.budget import can_extend, extended, grant, longer_lives, unreserved_usd
from orchestrator.controller.effects import Assign, Launch
from orchestrator.controller.facts import HEARD_LATE_S
from orchestrator.controller.observation import InstanceView, LaunchFailure
from orchestrator.fleets.protocol import InstanceState
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.jobs.record import InstanceUse, JobRecord
from tests.controller.builders import Scene, provisioning, training
from tests.controller.test_random_walks import Walk
from tests.support.specs import job_spec

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def record(*uses: tuple[float, float], spent_usd: float = 0.0) -> JobRecord:
    """A record with uses of (price, allowance)."""
    return JobRecord(
        name="digits",
        reason="",
        created_at=NOW,
        spent_usd=spent_usd,
        uses=tuple(
            InstanceUse(instance=f"i{n}", usd_per_hour=price, since=NOW, allowance_s=allowance_s)
            for n, (price, allowance_s) in enumerate(uses)
        ),
    )


def spec(max_cost: float | None = None, deadline: float | None = None) -> Any:
    return job_spec(limits={"max_cost": max_cost, "deadline": deadline})


def test_new_instances_get_half_of_what_is_not_reserved() -> None:
    assert grant(spec(10.0), record(), 0.0, 2, 1.0).allowance_s == 2.5 * 3600
    assert grant(spec(10.0), record((1.0, 3600.0), spent_usd=1.0), 0.0, 1, 2.0).allowance_s == 2 * 3600


def test_what_is_too_little_to_share_is_given_whole_if_nothing_else_runs() -> None:
    assert grant(spec(1.0), record(), 0.0, 1, 4.0).allowance_s == 900
    assert "does not pay for 10m of it: $1.00 are left, and it costs $4.00 an hour" in (
        grant(spec(1.25), record((1.0, 900.0)), 0.0, 1, 4.0).refusal
    )
    assert grant(spec(1.0), record(), 0.0, 1, 7.0).refusal


def test_without_a_budget_or_a_price_only_the_deadline_bounds_a_life() -> None:
    assert grant(spec(), record(), 0.0, 1, 1.0).allowance_s is None
    assert grant(spec(5.0), record(), 0.0, 1, 0.0).allowance_s is None
    assert grant(spec(deadline=3600.0), record(), 600.0, 1, 1.0).allowance_s == 3000 + 600
    assert grant(spec(100.0, 3600.0), record(), 0.0, 1, 1.0).allowance_s == 3600 + 600


def test_lives_are_extended_by_half_of_the_rest_until_that_is_not_worth_a_word() -> None:
    job, now, extensions = spec(2.0), record((1.0, 3600.0)), []
    while by_s := can_extend(job, now, 0.0, ("i0",)):
        extensions.append(by_s)
        now = now.model_copy(update={"uses": extended(now.uses, ("i0",), by_s)})
    assert extensions == [1800, 900, 450, 225, 112, 113 // 2 + 56] or sum(extensions) >= 3600 - 60
    assert unreserved_usd(job, now) >= 0


def test_after_a_long_absence_as_much_is_given_at_once_as_is_needed() -> None:
    job, now = spec(4.0), record((1.0, 7200.0))
    [young] = longer_lives(job, now, now.uses, 0.0, ("i0",))
    assert young.allowance_s == 7200
    [use] = now.uses
    old = now.model_copy(update={"uses": (use.model_copy(update={"lived_s": 6900.0}),)})
    [given] = longer_lives(job, old, old.uses, 0.0, ("i0",))
    assert given.allowance_s == 7200 + 3600 + 1800 + 900 + 450


def test_the_allowance_is_in_the_record_before_anything_is_launched() -> None:
    scene = Scene(job_spec(limits={"max_cost": 4.0}), price_usd_per_hour=1.0)
    decision = scene.decide()
    [launch] = [effect for effect in decision.effects if isinstance(effect, Launch)]
    [use] = decision.record.uses
    assert (use.instance, use.allowance_s) == (launch.request.instance, 2 * 3600)
    assert launch.request.allowance_s == use.allowance_s


def test_who_works_is_told_of_a_longer_life_when_half_of_it_is_over() -> None:
    scene = training(job_spec(limits={"max_cost": 4.0}), price_usd_per_hour=1.0)
    scene.pass_time(3600 - 1).settle()
    assert scene.assignment().allowance_s == 7200
    scene.pass_time(2)
    decision = scene.decide()
    assert decision.record.uses[0].allowance_s == 7200 + 3600
    [told] = [effect.assignment for effect in decision.effects if isinstance(effect, Assign)]
    assert (told.allowance_s, told.action) == (7200 + 3600, "run")


def test_a_launch_that_was_refused_costs_nothing_and_is_asked_for_again_under_another_name() -> None:
    scene = Scene(job_spec(limits={"max_cost": 4.0}), price_usd_per_hour=1.0)
    scene.refusals[1] = LaunchFailure("no capacity", kind="capacity")
    for _ in range(20):
        scene.settle().pass_time(600)
    scene.refusals.clear()
    scene.settle()
    requests = [effect.request for effect in scene.effects if isinstance(effect, Launch)]
    assert len({request.instance for request in requests}) == len(requests) == 21
    assert len({replace(request, instance="") for request in requests}) == 1
    assert scene.record.spend_usd(scene.now) == pytest.approx(0.0, abs=0.2)
    assert scene.come_up().is_in(JobPhase.RUNNING)


@pytest.mark.parametrize("refused", [True, False], ids=["no capacity", "the leader died before it launched"])
def test_what_never_came_to_be_is_not_paid_after_a_change_of_leader(refused: bool) -> None:
    scene = Scene(job_spec(limits={"max_cost": 4.0}), price_usd_per_hour=1.0)
    if refused:
        scene.refusals[1] = LaunchFailure("no capacity", kind="capacity")
        scene.settle()
    else:
        scene.decide()
    for _ in range(5):
        scene.epoch += 1
        scene.pass_time(600).ask("pause").settle()
        assert scene.record.uses == ()
        scene.ask("resume")
        if refused:
            scene.settle()
        else:
            scene.decide()
            scene.decide()
    assert scene.record.spent_usd == pytest.approx(0.0, abs=0.01)
    assert not scene.record.phase.over


@pytest.mark.parametrize("word", ["the fleet's", "its own"])
def test_what_was_ever_shown_is_paid_with_all_it_may_have_lived_if_nobody_watched_it(word: str) -> None:
    scene = Scene(job_spec(limits={"max_cost": 4.0}), price_usd_per_hour=1.0)
    scene.decide()
    [use] = scene.record.uses
    if word == "its own":
        scene.says(use.instance)
        scene.views[use.instance] = replace(scene.view(use.instance), state=None)
    else:
        scene.views[use.instance] = InstanceView(state=InstanceState.STARTING)
    scene.decide()
    scene.views[use.instance] = replace(scene.view(use.instance), state=None, heartbeat=None)
    scene.epoch += 1
    scene.pass_time(600).ask("pause").settle()
    assert scene.record.uses == ()
    assert scene.record.spent_usd == pytest.approx(2.0)


def test_what_the_fleet_says_of_a_life_is_charged_whoever_watched_over_it() -> None:
    scene = training(job_spec(limits={"max_cost": 4.0}), price_usd_per_hour=1.0)
    [instance] = scene.generation.instances
    scene.epoch += 1
    scene.pass_time(600)
    scene.views[instance] = InstanceView(state=InstanceState.GONE, lived_s=480.0)
    scene.decide()
    assert scene.record.spent_usd == pytest.approx(480 / 3600)


def test_what_the_fleet_says_of_a_life_counts_while_it_goes_on_and_no_wall_clock() -> None:
    scene = training(job_spec(limits={"max_cost": 4.0}), price_usd_per_hour=1.0)
    [instance] = scene.generation.instances
    scene.epoch += 1
    scene.pass_time(600).jump(86_400)
    scene.views[instance] = replace(scene.view(instance), lived_s=600.0)
    scene.decide()
    assert scene.record.uses[0].lived_s == 600.0
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)


def test_what_speaks_under_the_eyes_of_a_new_leader_is_paid_for_its_time_without_having_its_orders() -> None:
    scene = training(job_spec(limits={"max_cost": 4.0}), price_usd_per_hour=1.0)
    [instance] = scene.generation.instances
    scene.epoch += 1
    scene.pass_time(600).says(instance, "running", uptime_s=600.0)
    scene.views[instance] = replace(scene.view(instance), is_live=True)
    scene.decide()
    scene.pass_time(60)
    scene.views[instance] = InstanceView(state=InstanceState.GONE)
    scene.decide()
    assert scene.record.spent_usd == pytest.approx((600 + 60 + HEARD_LATE_S) / 3600)


def test_a_resize_that_cannot_be_paid_is_not_begun_and_that_is_said_once() -> None:
    scene = training(job_spec(limits={"max_cost": 0.25}), price_usd_per_hour=1.0)
    for step in range(20, 30):
        scene.pass_time(5).train(step, percent=95.0, samples=60)
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert scene.record.upcoming is None
    assert scene.kinds().count(EventKind.NO_CAPACITY) == 1
    assert "the budget of $0.25 does not pay for 10m of it" in scene.last(EventKind.NO_CAPACITY).message


def test_a_restart_that_cannot_be_paid_ends_the_job() -> None:
    scene = training(job_spec(limits={"max_cost": 0.25}), price_usd_per_hour=1.0)
    scene.pass_time(400).settle().lose()
    assert scene.is_in(JobPhase.FAILED)
    assert "the budget of $0.25 does not pay for 10m of it" in scene.record.reason


def test_what_an_instance_says_of_its_age_counts_where_nobody_has_looked_for_long() -> None:
    scene = training(job_spec(limits={"max_cost": 40.0}), price_usd_per_hour=1.0)
    [instance] = scene.generation.instances
    scene.epoch = 2
    scene.pass_time(5 * 3600).says(instance, "running", uptime_s=5 * 3600.0).settle()
    assert scene.record.spend_usd(scene.now) == pytest.approx(5.0)


def test_an_instance_never_costs_more_than_its_allowance() -> None:
    scene = provisioning(job_spec(limits={"max_cost": 4.0})).pass_time(0)
    assert scene.record.uses[0].allowance_s is None, "it is free"
    scene = training(job_spec(limits={"max_cost": 4.0}), price_usd_per_hour=1.0)
    scene.epoch = 2
    scene.pass_time(50 * 3600).lose()
    assert scene.record.spent_usd <= 2.0


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_worst_that_can_come_is_paid(seed: int) -> None:
    """What is spent by the record, and what runs at its price for as long as it may, stay below the budget."""
    budget = random.Random(seed).choice([0.3, 1.0, 3.0])
    walk = Walk(seed, limits={"max_cost": budget})
    for _ in range(60):
        walk.step()
        now = walk.scene.record
        worst = now.spent_usd + sum(use.worst_usd for use in now.uses)
        assert worst <= budget + 1e-6, f"${worst} of ${budget}"
        named = {use.instance for use in now.uses}
        assert walk.scene.alive() <= named, "something runs that nobody pays for"
