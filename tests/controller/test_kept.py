"""Which instances work on for the next generation."""

import pytest

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
