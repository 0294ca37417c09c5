"""The controller is killed between any two of its writes; the next one goes on, and nobody can tell afterwards."""

import contextlib
import random
from collections.abc import Callable
from functools import partial

import pytest

from orchestrator.controller.controller import Controller
from orchestrator.controller.decide import Deposed
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.controller.world import TICK_S, World, die_at, undisturbed_result
from tests.support.specs import job_spec

BUDGET_USD = 20.0
SCALING = {"window": 3.0, "warm_up": 1.0, "cooldown": 5.0}


Prepare = Callable[[World], None]


def nothing(_world: World) -> None:
    """No trouble."""


def growing(prepare: Prepare = nothing) -> World:
    """A job that grows from one worker to two."""
    world = World(job_spec(scaling=SCALING))
    prepare(world)
    world.fleet.percent = {1: 95.0, 2: 60.0}
    return world.run()


def resized_by_a_person(prepare: Prepare = nothing) -> World:
    """A job that a person resizes before it begins."""
    world = World()
    prepare(world)
    world.ask("resize", 2)
    return world.run()


def on_two_instances(prepare: Prepare = nothing) -> World:
    """A job whose generations are of two instances each."""
    world = World(job_spec(sizes=(1, 2), instances=2, scaling=SCALING))
    prepare(world)
    world.fleet.percent = {1: 95.0, 2: 60.0}
    return world.run()


def paused_and_resumed(prepare: Prepare = nothing) -> World:
    """A job that a person pauses while it trains, and resumes."""
    world = World()
    prepare(world)
    world.run(until=lambda world: world.step >= 7).ask("pause")
    world.run(until=lambda world: world.record.phase is JobPhase.PAUSED).ask("resume")
    return world.run()


def cancelled(prepare: Prepare = nothing) -> World:
    """A job that is cancelled while it trains."""
    world = World()
    prepare(world)
    world.run(until=lambda world: world.step >= 7).ask("cancel")
    return world.run()


def within_a_budget(prepare: Prepare = nothing) -> World:
    """The growing job, which may cost so much and no more."""
    world = World(job_spec(scaling=SCALING, limits={"max_cost": BUDGET_USD}))
    prepare(world)
    world.fleet.percent = {1: 95.0, 2: 60.0}
    return world.run()


STORIES = {
    "growing": growing,
    "resized by a person": resized_by_a_person,
    "on two instances": on_two_instances,
    "paused and resumed": paused_and_resumed,
    "cancelled": cancelled,
    "within a budget": within_a_budget,
}
UNDISTURBED = {name: story() for name, story in STORIES.items()}


def check(name: str, world: World) -> None:
    """It ended as if nothing had happened."""
    calm = UNDISTURBED[name]
    assert world.record.phase is calm.record.phase
    assert world.fleet.alive() == []
    assert sorted(world.fleet.launches) == sorted(calm.fleet.launches), "an instance too many, or too few"
    assert world.record.last_generation == calm.record.last_generation
    assert (world.record.lost_steps, world.record.failures) == (0, 0)
    if calm.record.phase is JobPhase.SUCCEEDED:
        assert world.result() == undisturbed_result()
    if world.spec.limits.max_cost is not None:  # at $1 an hour and instance, whoever has watched it
        trained_s = sum(agent._samples * TICK_S for agent in world.fleet.agents.values())
        assert trained_s / 3600 < world.record.spent_usd <= world.spec.limits.max_cost
    events = world.events
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    world.at_write = lambda _number, call: call()
    world.tick()
    assert [entry.key for entry in world.store.list("todo/")] == [], "it is looked at for ever"
    assert world.objects() == []
    told = [event.kind for event in events if event.kind is not EventKind.LEADER_CHANGED]
    assert told == [event.kind for event in calm.events]


def every_write(name: str) -> range:
    return range(1, len(UNDISTURBED[name].writes) + 1)


@pytest.mark.parametrize("applied", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_any_write_the_job_ends_as_if_undisturbed(name: str, applied: bool) -> None:
    for number in every_write(name):
        world = STORIES[name](partial(die_at, numbers=[number], applied=applied))
        assert world.epoch == 2, "the controller was to be killed"
        check(name, world)


@pytest.mark.parametrize("name", STORIES)
def test_killed_again_and_again(name: str) -> None:
    chance = random.Random(name)
    for _ in range(25):
        deadly = [number for number in range(1, 400) if chance.random() < 0.15]
        world = STORIES[name](partial(die_at, numbers=deadly, applied=chance.random() < 0.5))
        check(name, world)


@pytest.mark.parametrize("name", STORIES)
def test_controllers_that_live_for_twelve_writes_each_still_get_there(name: str) -> None:
    check(name, STORIES[name](partial(die_at, numbers=range(12, 10_000, 12), applied=True)))


class Sleeper:
    """A leader that stops before one of its writes; another leads for a while; then it carries out what it decided."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._old: tuple[Controller, int] | None = None

    def watch(self, world: World) -> None:
        def at_write(number: int, call: Callable[[], None]) -> None:
            if number == self._number and self._old is None:
                self._old = (world.controller, world.epoch)
                world.controller = world.new_controller()
                for _ in range(12):
                    world.tick()
            call()

        world.at_write = at_write

    def wake(self) -> None:
        """It looks at its jobs once more before it learns that it leads no longer."""
        assert self._old is not None
        controller, epoch = self._old
        with contextlib.suppress(Deposed):
            controller.tick(epoch)


@pytest.mark.parametrize("name", STORIES)
def test_a_leader_that_sleeps_through_its_deposition_does_no_harm(name: str) -> None:
    calm = UNDISTURBED[name]
    for number in every_write(name):
        sleeper = Sleeper(number)
        world = STORIES[name](sleeper.watch)
        sleeper.wake()
        world.run()
        assert world.record.phase is calm.record.phase
        assert world.fleet.alive() == []
        if calm.record.phase is JobPhase.SUCCEEDED:
            assert world.result() == undisturbed_result()


def test_a_request_is_honoured_once_wherever_the_controller_dies() -> None:
    for number in every_write("resized by a person"):
        world = resized_by_a_person(partial(die_at, numbers=[number], applied=True))
        assert [event.kind for event in world.events].count(EventKind.REQUESTED) == 1
        assert list(world.store.list("todo/requests/digits/")) == []


def test_two_leaders_that_both_believe_it_make_one_job() -> None:
    """They take turns for the whole of it: the older one is stopped by epochs, not by good manners."""
    refused = 0

    def both(world: World) -> None:
        world.run(until=lambda world: world.step == 2)
        old, old_epoch = world.controller, world.epoch
        world.controller = world.new_controller()
        while not world.record.phase.over:
            world.tick()
            try:
                old.tick(old_epoch)
            except Deposed:
                nonlocal refused
                refused += 1

    world = World(job_spec(scaling=SCALING))
    world.fleet.percent = {1: 95.0, 2: 60.0}
    both(world)
    check("growing", world.run())
    assert refused > 10
