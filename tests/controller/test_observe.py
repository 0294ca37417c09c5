"""What one look at a job takes in, in which order, and by whose clock."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from orchestrator.controller.observe import JobWatch, Observer
from orchestrator.fleets.protocol import InstanceState
from orchestrator.jobs import layout
from orchestrator.jobs.instances import Heartbeat
from orchestrator.store import StoreError
from orchestrator.store.protocol import UNCHANGED
from tests.controller.world import World
from tests.support.interposed import InterposedStore, Operation

NAME = "digits-g1-n0-a0"


@pytest.fixture
def world() -> World:
    """A job that trains."""
    return World().run(until=lambda world: world.step == 3)


def test_the_head_is_read_after_the_heartbeats(world: World) -> None:
    """So it is never older than what they tell: who has 'finished' has its last checkpoint in it."""
    read: list[str] = []

    def remember(operation: Operation, key: str, call: Callable[[], object]) -> object:
        read.append(key)
        return call()

    observer = Observer(InterposedStore(world.store, remember), {"local": world.fleet}, world.clock.monotonic)
    observer.observe("digits", JobWatch.of("digits"), 1)
    assert read.index(layout.head_key("digits")) > read.index(layout.heartbeat_key(NAME))


def test_what_has_not_changed_is_not_read_again(world: World) -> None:
    answers: list[object] = []

    def remember(operation: Operation, key: str, call: Callable[[], object]) -> object:
        answer = call()
        if operation == "get":
            answers.append(answer)
        return answer

    observer = Observer(InterposedStore(world.store, remember), {"local": world.fleet}, world.clock.monotonic)
    watch = JobWatch.of("digits")
    first = observer.observe("digits", watch, 1)
    answers.clear()
    assert observer.observe("digits", watch, 1) == first
    assert answers
    assert all(answer is UNCHANGED for answer in answers)


def test_silence_is_measured_by_ones_own_clock_from_the_last_change_that_was_seen(world: World) -> None:
    observer, watch = Observer(world.store, {"local": world.fleet}, world.clock.monotonic), JobWatch.of("digits")

    def silent_s() -> float:
        observed = observer.observe("digits", watch, 1)
        assert observed is not None
        return observed[0].view(NAME).silent_s

    assert silent_s() == 0, "a new controller knows of no silence yet"
    world.clock.elapsed_s += 40
    assert silent_s() == 40
    world.fleet.agents[NAME].tick()
    assert silent_s() == 0


def test_an_instance_that_brings_images_for_long_is_not_stalled(world: World) -> None:
    observer, watch = Observer(world.store, {"local": world.fleet}, world.clock.monotonic), JobWatch.of("digits")

    def stalled_s(activity: str, complaint: str = "") -> float:
        world.clock.elapsed_s += 40
        beat = Heartbeat(
            instance=NAME,
            count=1,
            at=datetime(2026, 1, 1, tzinfo=UTC),
            state="restoring",
            generation=1,
            activity=activity,
            complaint=complaint,
        )
        world.store.put(layout.heartbeat_key(NAME), beat.model_dump_json().encode())
        observed = observer.observe("digits", watch, 1)
        assert observed is not None
        return observed[0].view(NAME).stalled_s

    assert [stalled_s(f"bringing {done} of 9 files") for done in (1, 2, 2)] == [0, 0, 40]
    complaints = [stalled_s("bringing 2 of 9 files", complaint) for complaint in ("no answer", "no answer yet")]
    assert complaints == [80, 120], "it has not come further by complaining"


def test_an_instance_is_seen_as_fleet_and_bucket_show_it(world: World) -> None:
    observer = Observer(world.store, {"local": world.fleet}, world.clock.monotonic)
    observed = observer.observe("digits", JobWatch.of("digits"), 1)
    assert observed is not None
    view = observed[0].view(NAME)
    assert view.state is InstanceState.RUNNING
    assert view.heartbeat is not None
    assert view.heartbeat.generation == 1
    assert view.assignment is not None
    assert observed[0].prices == {"local": 1.0}
    assert observed[0].view("unheard-of").state is None


def test_a_submit_that_was_not_completed_is_no_job_yet() -> None:
    world = World()
    world.store.delete(layout.record_key("digits"))
    observer = Observer(world.store, {"local": world.fleet}, world.clock.monotonic)
    assert observer.observe("digits", JobWatch.of("digits"), 1) is None


def test_a_heartbeat_that_cannot_be_read_is_said(world: World) -> None:
    world.store.put(layout.heartbeat_key(NAME), b"{")
    observer = Observer(world.store, {"local": world.fleet}, world.clock.monotonic)
    with pytest.raises(StoreError, match="is not a heartbeat"):
        observer.observe("digits", JobWatch.of("digits"), 1)
