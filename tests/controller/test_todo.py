"""What waits for a controller: marks and requests, whoever leaves and removes them meanwhile."""

import pytest

from orchestrator.controller.spread import one_by_one
from orchestrator.controller.todo import Todo
from orchestrator.jobs import layout
from orchestrator.jobs.bell import ring
from orchestrator.jobs.bucket import submit_job
from orchestrator.jobs.pace import QUICK
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.removal import remove_job
from orchestrator.jobs.requests import send_request
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import NotAllowed, Object, StoreUnreachable
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


def test_a_ring_that_was_heard_as_the_store_went_away_is_answered_when_it_is_back() -> None:
    store, is_away = MemoryStore(), [False]

    def keep_leading() -> bool:
        if is_away[0]:
            raise StoreUnreachable("the lease cannot be renewed")
        return True

    todo = Todo(store, lambda: 0.0, QUICK, print, lambda function, items: one_by_one(function, items, keep_leading))
    assert todo.refresh(busy=False) and not todo.jobs
    store.put(layout.todo_key("digits"), b"mark")
    ring(store, lambda: "a")
    is_away[0] = True
    with pytest.raises(StoreUnreachable):
        todo.refresh(busy=False)
    is_away[0] = False
    assert todo.refresh(busy=False)
    assert list(todo.jobs) == ["digits"]


def test_requests_that_cannot_be_read_or_removed_are_told_once_and_hold_nobody_up(world: World) -> None:
    stuck, nobodys = layout.request_key("other", "secret"), layout.request_key("nobody", "cancel")
    get, delete = world.store.get, world.store.delete
    world.store.put(stuck, b"{}")
    cancel = send_request(world.store, "digits", "cancel", now=world.clock.now(), by="ada", nonce=world.nonce)
    world.store.put(nobodys, cancel.model_dump_json().encode())

    def get_most(key: str) -> Object | None:
        if key == stuck:
            raise NotAllowed(f"{key}: access denied")
        return get(key)

    def delete_most(key: str, etag: str | None = None) -> None:
        if key == nobodys:
            raise NotAllowed(f"{key}: access denied")
        delete(key, etag)

    world.store.get, world.store.delete = get_most, delete_most  # type: ignore[method-assign]
    world.run()
    assert world.record.phase is JobPhase.CANCELLED
    for _ in range(20):
        world.tick()
    assert [line for line in world.log if stuck in line] == [
        f"a request cannot be read and waits: {stuck}: access denied"
    ]
    assert [line for line in world.log if nobodys in line] == [f"nobody: {nobodys}: access denied"]
    world.store.get = get  # type: ignore[method-assign]
    for _ in range(20):
        world.tick()
    assert get(stuck) is None, "it is read again and again: now it can be, and is no request"
