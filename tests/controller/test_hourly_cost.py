"""A rung that costs more an hour than limits.max_hourly_cost is not chosen, whatever makes it the next one."""

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.spec.models import JobSpec, Resources, Rung
from tests.controller.builders import Scene, training
from tests.support.specs import job_spec

SMALL, LARGE = Rung(count=1, workers=1), Rung(count=2, workers=1)
"""The larger costs twice as much."""


def spec(max_hourly_cost: float | None, *ladder: Rung) -> JobSpec:
    """A job that may cost so much an hour, on a small rung and a large one if nothing else is said."""
    fleet = "ec2" if ladder else "local"
    job = job_spec(limits={"max_hourly_cost": max_hourly_cost})
    return job.model_copy(
        update={"resources": Resources.model_validate({"fleet": fleet, "ladder": ladder or (SMALL, LARGE)})}
    )


def busy(scene: Scene) -> Scene:
    """Its GPUs are busy for a while."""
    for step in range(20, 30):
        scene.pass_time(5).train(step, percent=95.0, samples=60)
    return scene


def test_a_first_rung_that_is_too_dear_is_said_and_ends_the_job() -> None:
    scene = Scene(spec(0.5), price_usd_per_hour=1.0).settle()
    assert scene.is_in(JobPhase.FAILED)
    assert "1 × local costs $1.00 an hour, and limits.max_hourly_cost allows $0.50" in scene.record.reason


def test_a_job_begins_on_the_first_rung_that_is_not_too_dear() -> None:
    scene = Scene(
        spec(2.0, Rung(instance="g6.xlarge", count=1, workers=1), Rung(instance="g4dn.xlarge", count=2, workers=1))
    )
    scene.prices = {"g6.xlarge": 3.0, "g4dn.xlarge": 1.0}
    assert scene.settle().upcoming.rung == 1


def test_scaling_up_to_a_rung_that_is_too_dear_is_left_alone_and_said_once() -> None:
    scene = busy(training(spec(1.5), price_usd_per_hour=1.0))
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert scene.record.upcoming is None
    assert scene.kinds().count(EventKind.NO_CAPACITY) == 1
    assert "2 × local costs $2.00 an hour" in scene.last(EventKind.NO_CAPACITY).message


def test_a_price_within_the_limit_changes_nothing() -> None:
    for limit in (2.0, None):
        scene = busy(training(spec(limit), price_usd_per_hour=1.0))
        assert scene.upcoming.rung == 1


def test_when_prices_have_risen_the_next_generation_is_smaller() -> None:
    scene = busy(training(spec(2.5), price_usd_per_hour=1.0)).come_up()
    scene.commit(40).exit("drained", step=40).train(41)
    assert scene.generation.rung == 1
    scene.prices["local"] = 2.0
    scene.lose().pass_time(60).settle()
    assert scene.upcoming.rung == 0
    assert scene.upcoming.cause == "loss"


def test_a_job_that_has_trained_waits_for_a_lower_price() -> None:
    scene = training(spec(1.5), price_usd_per_hour=1.0)
    scene.prices["local"] = 2.0
    scene.lose()
    for _ in range(10):
        scene.pass_time(120).settle()
    assert not scene.record.phase.over
    assert scene.record.reason.startswith("waiting for a lower price: 1 × local costs $2.00 an hour")
    assert scene.kinds().count(EventKind.NO_CAPACITY) == 1
    scene.prices["local"] = 1.0
    scene.pass_time(120).settle().come_up()
    assert scene.is_in(JobPhase.RUNNING)


def test_a_size_that_a_person_asked_for_is_kept_and_its_price_waited_for() -> None:
    scene = training(spec(2.5), price_usd_per_hour=1.0).ask("resize", 2).settle().come_up()
    scene.commit(40).exit("drained", step=40).train(41)
    scene.prices["local"] = 2.0
    scene.lose().pass_time(120).settle()
    assert scene.record.reason.startswith("waiting for a lower price: 2 × local costs $4.00 an hour")
    scene.ask("resize").settle().pass_time(120).settle()
    assert scene.upcoming.rung == 0
