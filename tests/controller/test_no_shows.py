"""Instances that come up late, or never."""

from dataclasses import replace

from orchestrator.controller.recovery import BOOT_TAKES_AT_MOST_S, SILENCE_IS_LOSS_AFTER_S
from orchestrator.fleets.protocol import InstanceState
from orchestrator.jobs.phases import JobPhase
from tests.controller.builders import provisioning


def test_an_instance_may_take_long_to_boot() -> None:
    scene = provisioning()
    [instance] = scene.upcoming.instances
    for silent_s in (SILENCE_IS_LOSS_AFTER_S + 1, 1200.0, BOOT_TAKES_AT_MOST_S):
        for state in (InstanceState.STARTING, InstanceState.RUNNING):
            scene.views[instance] = replace(scene.view(instance), state=state, silent_s=silent_s)
            assert scene.settle().upcoming.instances == (instance,)
    scene.views[instance] = replace(scene.view(instance), silent_s=BOOT_TAKES_AT_MOST_S + 1)
    scene.settle()
    assert instance in scene.terminated()
    assert scene.upcoming.instances == ("digits-g1-n0-a1",)


def test_who_has_spoken_and_is_silent_before_it_works_is_not_waited_for_as_long() -> None:
    scene = provisioning()
    [instance] = scene.upcoming.instances
    scene.says(instance, "booting", silent_s=SILENCE_IS_LOSS_AFTER_S + 1).settle()
    assert instance in scene.terminated()
    assert scene.come_up().is_in(JobPhase.RUNNING)
