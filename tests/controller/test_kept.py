"""Which instances work on for the next generation."""

import pytest

from orchestrator.controller.facts import DRAIN_TIMEOUT_S
from orchestrator.controller.launching import CAPACITY_RETRY_S
from orchestrator.controller.observation import LaunchFailure
from orchestrator.jobs.phases import GenerationPhase
from tests.controller.builders import training
from tests.support.specs import job_spec


@pytest.mark.parametrize("failed", [0, 1])
def test_who_is_well_is_kept_when_the_workers_of_another_have_failed(failed: int) -> None:
    scene = training(job_spec(instances=2)).commit(40)
    instances = scene.generation.instances
    scene.exit("failed", message="boom", instances=[instances[failed]])
    assert scene.assignment(instances[1 - failed]).action == "stop"
    assert scene.upcoming.instances == instances
    assert scene.generation.number == 1, "who is told to stop is waited for"
    scene.obey().train(41)
    assert (scene.generation.number, scene.generation.instances) == (2, instances)
    assert (scene.terminated(), scene.launched()) == ([], list(instances))


def test_who_stood_still_and_does_not_stop_is_not_kept() -> None:
    scene = training(job_spec(instances=2, limits={"stall": 60.0})).commit(40)
    for instance in scene.generation.instances:
        scene.says(instance, "running", stalled_s=61.0)
    scene.settle()
    assert not set(scene.upcoming.instances) & set(scene.generation.instances)


def test_of_several_one_that_is_taken_away_is_replaced_while_all_drain() -> None:
    scene = training(job_spec(instances=2)).commit(40)
    stays, goes = scene.generation.instances
    scene.says(goes, "draining", ends_at=scene.now).settle()
    assert scene.generation.phase is GenerationPhase.DRAINING
    assert [scene.assignment(i).action for i in (stays, goes)] == ["drain", "drain"]
    [new] = [i for i in scene.upcoming.instances if i != stays]
    assert (scene.upcoming.cause, scene.launched()[-1]) == ("preemption", new)
    scene.says(new).settle()
    assert scene.generation.number == 1
    drained = {"outcome": "drained", "code": 75, "message": "it is taken away"}
    scene.says(goes, "leaving", generation=1, exit=drained).says(stays, "stopped", generation=1, exit=drained)
    scene.settle().train(41)
    assert (scene.generation.number, scene.generation.instances) == (2, (stays, new))
    assert scene.terminated() == [goes]
    assert (scene.record.failures, scene.record.losses, scene.record.resizes) == (0, 0, 0)


def test_who_drains_is_not_ended_when_the_other_cannot_be_replaced() -> None:
    scene = training(job_spec(instances=2)).commit(40)
    stays, goes = scene.generation.instances
    scene.refusals[1] = LaunchFailure("there is none", "capacity")
    scene.says(goes, "draining", ends_at=scene.now).settle()
    assert scene.generation.phase is GenerationPhase.DRAINING
    assert (scene.record.upcoming, scene.terminated()) == (None, [])
    scene.refusals.clear()
    drained = {"outcome": "drained", "code": 75, "message": "it is taken away"}
    scene.says(goes, "leaving", generation=1, exit=drained).says(stays, "stopped", generation=1, exit=drained)
    scene.settle().pass_time(CAPACITY_RETRY_S).settle()
    assert scene.upcoming.instances[0] == stays
    assert goes not in scene.upcoming.instances


def test_who_was_to_work_on_and_does_not_end_in_time_is_not_waited_for() -> None:
    scene = training(job_spec(instances=2)).commit(40)
    stays, goes = scene.generation.instances
    scene.says(goes, "draining", ends_at=scene.now).settle()
    scene.pass_time(DRAIN_TIMEOUT_S + 1)
    for instance in (stays, goes):
        scene.says(instance, "draining", stalled_s=DRAIN_TIMEOUT_S + 1)
    scene.settle()
    assert scene.generation.outcome == "lost"
    scene.pass_time(60).settle().come_up().train(41)
    assert not {stays, goes} & set(scene.generation.instances)
    assert scene.alive() == set(scene.generation.instances)
