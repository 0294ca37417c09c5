"""Instances that come up late, or never."""

from dataclasses import replace

from orchestrator.controller.recovery import BOOT_TAKES_AT_MOST_S, SILENCE_IS_LOSS_AFTER_S
from orchestrator.fleets.protocol import InstanceState, LaunchRequest
from orchestrator.jobs.phases import JobPhase
from tests.controller.builders import provisioning
from tests.controller.world import World
from tests.support.specs import job_spec


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


def test_a_launch_that_is_taken_and_never_shown_is_given_up_under_its_name() -> None:
    """Its instance has ended while no controller looked, and is forgotten: asking again gives back the same one."""
    world, forgotten = World(job_spec(limits={"max_cost": 5.0})), "digits-g1-n0-a0"
    world.fleet.lag_s = 60.0
    launch, asked = world.fleet.launch, list[str]()

    def take(request: LaunchRequest) -> None:
        asked.append(request.instance)
        if request.instance != forgotten:
            launch(request)

    world.fleet.launch = take  # type: ignore[method-assign]
    world.run(until=lambda world: world.clock.elapsed_s >= 60.0)
    assert set(asked) == {forgotten}, "it may yet be shown"
    [use] = world.record.uses
    assert use.allowance_s is not None
    world.run(until=lambda world: world.fleet.launches == ["digits-g1-n0-a1"], within_s=30.0)
    assert world.run().record.phase is JobPhase.SUCCEEDED
    [charge] = world.record.charges
    assert use.allowance_s < charge.seconds < use.allowance_s + 60.0, "it may have lived for so long"
