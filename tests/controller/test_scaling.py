"""The 80/30 rule at its edges, and a resize that never costs more than a checkpoint and a restart."""

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.agent.sampling import SAMPLES_KEPT
from orchestrator.controller.autoscaling import ScalingInputs, decide_scaling, window_mean
from orchestrator.controller.facts import RUNG_UNAVAILABLE_S
from orchestrator.controller.observation import LaunchFailure
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.instances import Utilization
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.spec.models import MAX_WINDOW_S
from tests.controller.builders import Scene, training
from tests.support.specs import job_spec

WINDOW, WARM_UP = 8, 3
ENOUGH = WINDOW + WARM_UP


def samples(*percents: float, count: int | None = None) -> Utilization:
    return Utilization(source="cpu", percents=percents, count=len(percents) if count is None else count)


def steady(percent: float, count: int = ENOUGH) -> Utilization:
    return samples(*[percent] * count)


LADDER = (1, 2, 4)

# rung, utilisation of each instance, seconds since the last resize, changes of `scaling`, rungs that cannot be had
# -> verdict, target, what the reason says
CASES: dict[str, tuple[int, list[Utilization | None], float | None, dict[str, Any], set[int], str, int, str]] = {
    "above 80": (0, [steady(81)], None, {}, set(), "up", 1, "81.0 % is above 80 % over 8 s: from 1 to 2 workers"),
    "just above 80": (0, [steady(80.01)], None, {}, set(), "up", 1, "is above 80 %"),
    "80 is not above 80": (0, [steady(80)], None, {}, set(), "stay", 0, "is between 30 and 80 %"),
    "30 is not below 30": (1, [steady(30)], None, {}, set(), "stay", 1, "is between 30 and 80 %"),
    "below 30": (1, [steady(29)], None, {}, set(), "down", 0, "29.0 % is below 30 % over 8 s: from 2 to 1 worker"),
    "the mean counts, not the peak": (0, [samples(*[100, 60] * 6)], None, {}, set(), "stay", 0, "80.0 % is between"),
    "mean over instances": (0, [steady(100), steady(63)], None, {}, set(), "up", 1, "is above"),
    "one busy instance is not enough": (0, [steady(100), steady(60)], None, {}, set(), "stay", 0, "is between"),
    "no samples": (0, [None], None, {}, set(), "stay", 0, "fewer than 8 samples since the warm-up"),
    "one sample short": (0, [steady(100, ENOUGH - 1)], None, {}, set(), "stay", 0, "fewer than 8 samples"),
    "one instance has too few": (0, [steady(100), steady(100, 5)], None, {}, set(), "stay", 0, "fewer than 8"),
    "the warm-up does not count": (0, [samples(*[0] * WARM_UP, *[90] * WINDOW)], None, {}, set(), "up", 1, "90.0 %"),
    "only the last window counts": (0, [samples(*[0] * 50, *[90] * WINDOW)], None, {}, set(), "up", 1, "90.0 %"),
    "a window that is not whole": (0, [samples(*[0] * 50, *[90] * 7)], None, {}, set(), "stay", 0, "is between"),
    "within the cooldown": (0, [steady(100)], 29.9, {}, set(), "stay", 0, "the last resize was 30 s ago (cooldown 30"),
    "after the cooldown": (0, [steady(100)], 30.0, {}, set(), "up", 1, "is above"),
    "at the top": (2, [steady(100)], None, {}, set(), "stay", 2, "no larger rung within bounds"),
    "at the bottom": (0, [steady(0)], None, {}, set(), "stay", 0, "no smaller rung within bounds"),
    "not beyond max": (1, [steady(100)], None, {"max": 2}, set(), "stay", 1, "no larger rung within bounds"),
    "not below min": (1, [steady(0)], None, {"min": 2}, set(), "stay", 1, "no smaller rung within bounds"),
    "outside its bounds it comes back": (2, [steady(0)], None, {"max": 2}, set(), "down", 1, "is below"),
    "could not be had lately": (0, [steady(100)], None, {}, {1}, "stay", 0, "rung 1 could not be had lately"),
    "other bounds": (0, [steady(55)], None, {"up_above": 50.0, "down_below": 10.0}, set(), "up", 1, "above 50 %"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_rule(
    case: tuple[int, list[Utilization | None], float | None, dict[str, Any], set[int], str, int, str],
) -> None:
    rung, utilizations, since_resize_s, scaling, unavailable, verdict, target, said = case
    spec = job_spec(sizes=LADDER, scaling=scaling)
    decision = decide_scaling(spec, ScalingInputs(rung, tuple(utilizations), since_resize_s, frozenset(unavailable)))
    assert (decision.verdict, decision.to_rung) == (verdict, target)
    assert said in decision.reason
    assert decision.inputs["rung"] == rung


def test_the_mean_of_a_window_weighs_instances_alike() -> None:
    assert window_mean([samples(0, 100, 100), samples(50, 50, 50)], skipped=0, needed=2) == 75
    assert window_mean([], skipped=0, needed=1) is None


def test_the_longest_window_that_a_job_may_ask_for_is_one_that_heartbeats_can_fill() -> None:
    """A job that waits for more samples than agents keep would never scale."""
    longest = job_spec(scaling={"window": MAX_WINDOW_S})
    kept = Utilization(source="cpu", percents=(90.0,) * SAMPLES_KEPT, count=SAMPLES_KEPT + WARM_UP)
    assert decide_scaling(longest, ScalingInputs(0, (kept,), None)).verdict == "up"
    with pytest.raises(ValidationError, match="must be at most 10m"):
        job_spec(scaling={"window": MAX_WINDOW_S + 1})


# --- the whole path ---------------------------------------------------------------------------------------------------


def test_busy_workers_make_it_grow_and_training_never_waits_for_the_new_instance() -> None:
    scene = training().commit(20)
    old = scene.generation.instances[0]
    scene.train(30, percent=95.0, samples=ENOUGH)
    assert scene.upcoming.rung == 1
    assert (scene.generation.phase, scene.assignment(old).action) == (GenerationPhase.TRAINING, "run")

    scene.train(50)
    assert scene.assignment(old).action == "run"
    new = scene.upcoming.instances[0]
    scene.says(new, "ready").settle()
    assert (scene.generation.phase, scene.assignment(old).action) == (GenerationPhase.DRAINING, "drain")
    assert new not in {i for i, v in scene.views.items() if v.assignment}

    scene.commit(52).exit("drained", step=52)
    assert (scene.generation.number, scene.workers) == (2, 2)
    assert (scene.generation.resume_step, scene.record.lost_steps, scene.record.resizes) == (52, 0, 1)
    assert scene.alive() == {new}
    assert scene.kinds()[-5:] == [
        EventKind.SCALE_UP,
        EventKind.PROVISIONING,
        EventKind.DRAINING,
        EventKind.GENERATION_ENDED,
        EventKind.STARTING,
    ]


def test_with_several_instances_the_old_ones_train_until_every_new_one_is_ready() -> None:
    scene = training(job_spec(instances=2)).commit(20).train(30, percent=95.0, samples=ENOUGH)
    first, second = scene.upcoming.instances
    scene.says(first).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    scene.says(second).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING)


def test_idle_workers_make_it_shrink() -> None:
    scene = training(job_spec(scaling={"min": 2})).train(2)
    scene.spec = job_spec()
    scene.train(30, percent=12.0, samples=ENOUGH).come_up().commit(31).exit("drained")
    assert (scene.workers, scene.record.resizes) == (1, 1)
    assert scene.last(EventKind.SCALE_DOWN).message.startswith("utilisation 12.0 % is below 30 %")


def test_the_event_carries_what_the_decision_was_made_of() -> None:
    scene = training().pass_time(100).train(30, percent=95.0, samples=40)
    told = scene.last(EventKind.SCALE_UP)
    assert told.inputs == {
        "utilization_percent": 95.0,
        "sources": ["cpu"],
        "samples": [40],
        "window_s": 8.0,
        "warm_up_s": 3.0,
        "up_above": 80.0,
        "down_below": 30.0,
        "rung": 0,
        "to_rung": 1,
        "allowed_rungs": [0, 1],
        "since_resize_s": None,
        "cooldown_s": 30.0,
        "unavailable_rungs": [],
    }


def test_samples_of_the_generation_before_do_not_count() -> None:
    scene = training()
    instance = scene.generation.instances[0]
    scene.train(30, percent=95.0, samples=ENOUGH - 1).exit("failed", message="boom")
    assert scene.generation.number == 2
    beat = scene.view(instance).heartbeat
    assert beat is not None
    scene.says(instance, "running", utilization=steady(95.0)).settle()  # still of generation 1
    assert scene.record.upcoming is None


@pytest.mark.parametrize("phase", ["starting", "draining"])
def test_only_a_job_that_trains_is_resized(phase: str) -> None:
    scene = training() if phase == "draining" else Scene().settle().come_up()
    instance = scene.generation.instances[0]
    if phase == "draining":
        scene.ask("pause")
    scene.says(instance, "running", generation=1, utilization=steady(95.0)).settle()
    assert scene.record.upcoming is None


def resized(spec_scaling: dict[str, Any] | None = None) -> Scene:
    """A job that has just grown from one worker to two, of four."""
    spec = job_spec(sizes=LADDER, scaling=spec_scaling)
    scene = training(spec).train(30, percent=95.0, samples=ENOUGH).come_up().commit(31).exit("drained").train(32)
    assert scene.workers == 2
    return scene


def test_after_a_resize_the_cooldown_passes_first() -> None:
    scene = resized()
    scene.pass_time(29).train(60, percent=95.0, samples=ENOUGH)
    assert scene.record.upcoming is None
    scene.pass_time(1).train(61, percent=95.0, samples=ENOUGH)
    assert scene.upcoming.rung == 2


def test_a_failure_keeps_the_size() -> None:
    scene = resized().exit("failed", message="boom")
    assert (scene.generation.number, scene.workers) == (3, 2)


# --- what cannot be had -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("permanent", [False, True])
def test_a_resize_without_capacity_leaves_training_alone(permanent: bool) -> None:
    scene = training()
    scene.refusals[2] = LaunchFailure("1 of 2 cores are free", kind="fatal" if permanent else "capacity")
    scene.train(30, percent=95.0, samples=ENOUGH)
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert scene.assignment().action == "run"
    assert scene.record.upcoming is None
    told = scene.last(EventKind.NO_CAPACITY)
    assert told.message == "rung 1 cannot be had: 1 of 2 cores are free; training goes on as it is"
    assert told.inputs == {"rung": 1, "permanent": permanent}

    launched = len(scene.launched())
    scene.pass_time(RUNG_UNAVAILABLE_S - 1).train(60, percent=95.0, samples=ENOUGH)
    assert len(scene.launched()) == launched, "it is not asked for again too soon"
    scene.refusals.clear()
    scene.pass_time(1).train(61, percent=95.0, samples=ENOUGH)
    assert (scene.record.upcoming is None) == permanent


def test_instances_of_a_resize_that_never_come_up_leave_training_alone() -> None:
    """However often: a healthy job is not failed because it could not be made larger."""
    scene = training(job_spec(limits={"max_failures": 0}))
    for _ in range(3):
        scene.train(30, percent=95.0, samples=ENOUGH)
        while scene.record.upcoming is not None:
            scene.lose(*scene.upcoming.instances)
        scene.pass_time(RUNG_UNAVAILABLE_S)
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert scene.record.failures == 0
    assert scene.assignment().action == "run"
    assert scene.alive() == set(scene.generation.instances)


def test_a_generation_that_fails_during_a_resize_is_followed_by_the_new_size() -> None:
    scene = training().commit(20).train(30, percent=95.0, samples=ENOUGH)
    scene.exit("failed", message="boom")
    assert scene.generation.number == 1
    scene.come_up()
    assert (scene.generation.number, scene.workers, scene.generation.resume_step) == (2, 2, 20)
    assert scene.alive() == set(scene.generation.instances)
