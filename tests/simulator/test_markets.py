"""Spot and on-demand instances in two zones, by the real controller and agents, with no fault but what is told."""

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.simulator.cloud import ZONES
from orchestrator.simulator.trainer import Course
from orchestrator.spec.models import JobSpec, Resources
from tests.simulator.test_losses import Calm
from tests.support.specs import job_spec

LONG = Course(steps=500, steps_per_s=0.4)
"""Twenty minutes."""


def spec(count: int = 1) -> JobSpec:
    ladder = [{"instance": "simulated.xlarge", "count": count, "workers": 1}]
    return job_spec().model_copy(
        update={"resources": Resources.model_validate({"fleet": "ec2", "ladder": ladder}), "name": "digits"}
    )


def bought(calm: Calm) -> list[str]:
    """The markets of all instances that were ever there, in order."""
    return [instance.request.market for instance in calm.instances()]


def test_without_spot_a_job_runs_on_demand_and_goes_back_when_spot_returns() -> None:
    calm = Calm(spec(), LONG)
    calm.world.cloud.lacks(300.0, market="spot")
    calm.until(calm.trains)
    assert bought(calm) == ["on_demand"]
    began_s = calm.world.timeline.now_s
    calm.until(lambda: calm.record.generation is not None and calm.record.generation.cause == "move", 1200.0)
    assert calm.world.timeline.now_s - began_s < 800.0
    assert bought(calm) == ["on_demand", "spot"]
    calm.finish()
    assert bought(calm) == ["on_demand", "spot"], "and nothing else was ever started"
    assert calm.record.lost_steps == 0


def test_where_spot_stays_away_training_goes_on_and_it_is_tried_ever_more_seldom() -> None:
    calm = Calm(spec(), Course(steps=900, steps_per_s=0.4))
    calm.world.cloud.lacks(1e9, market="spot")
    calm.finish()
    assert bought(calm) == ["on_demand"]
    tries = [event for event in calm.events if event.kind is EventKind.PROVISIONING and event.inputs["cause"] == "move"]
    assert len(tries) == 2, "after ten minutes and after twenty more"
    assert calm.record.lost_steps == 0


def test_a_zone_that_takes_instances_back_is_left_for_the_other() -> None:
    calm = Calm(spec(), LONG)
    calm.until(calm.trains)
    [first] = calm.instances()
    calm.world.cloud.preempt(first, notice=False)
    calm.until(lambda: len(calm.instances()) == 2)
    assert {instance.request.zone for instance in calm.instances()} == set(ZONES)
    assert set(bought(calm)) == {"spot"}
    calm.finish()


def test_two_instances_are_in_one_zone_though_each_has_room_for_one_only() -> None:
    """So nothing but on-demand instances is left for them."""
    calm = Calm(spec(count=2), LONG)
    cloud = calm.world.cloud
    launch = cloud.launch

    def scarce(request, by, asked_s):  # type: ignore[no-untyped-def]
        there = [i for i in cloud.live() if (i.request.zone, i.request.market) == (request.zone, "spot")]
        if there and request.market == "spot" and request.instance not in cloud.instances:
            cloud.lacks(cloud.timeline.now_s + 1.0, request.zone, "spot")
        launch(request, by, asked_s)

    cloud.launch = scarce  # type: ignore[method-assign]
    calm.until(calm.trains)
    live = cloud.live()
    assert len(live) == 2
    assert {instance.request.market for instance in live} == {"on_demand"}
    assert len({instance.request.zone for instance in live}) == 1
    calm.finish()
    assert calm.record.phase is JobPhase.SUCCEEDED
