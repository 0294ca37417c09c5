"""What waits for a controller: marks and requests, whoever leaves and removes them meanwhile."""

import pytest

from orchestrator.jobs import layout
from orchestrator.jobs.bucket import submit_job
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.removal import remove_job
from tests.controller.world import World


@pytest.fixture
def world() -> World:
    return World()


def submit_anew(world: World) -> None:
    """The job is over and settled; now another of its name."""
    assert world.store.get(layout.todo_key("digits")) is None
    remove_job(world.store, "digits", world.clock.now(), world.nonce)
    submit_job(world.store, world.spec, world.clock.now(), world.nonce)


def ends_well(world: World) -> bool:
    """Whether the job of now is brought to its end and settled, and its whole story told."""
    world.run(until=lambda world: world.store.get(layout.todo_key("digits")) is None)
    numbers = [event.number for event in world.events]
    return world.record.phase is JobPhase.SUCCEEDED and numbers == list(range(1, world.record.last_event + 1))


def test_a_name_that_is_submitted_again_between_two_looks_is_a_new_job(world: World) -> None:
    assert ends_well(world)
    submit_anew(world)
    assert world.record.phase is JobPhase.PENDING
    assert ends_well(world)


def test_who_knew_an_earlier_job_of_the_name_forgets_it_when_the_mark_is_another(world: World) -> None:
    former, epoch = world.run(until=lambda world: world.step == 3).controller, world.epoch
    world.controller = world.new_controller()
    assert ends_well(world)
    submit_anew(world)
    world.controller, world.epoch = former, epoch
    assert ends_well(world)
