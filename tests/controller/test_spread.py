"""Many jobs at once: what one of them waits for holds neither the lease nor the others up."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from orchestrator.controller.duty import Duty
from orchestrator.controller.spread import SideBySide, Spread, one_by_one
from orchestrator.controller.todo import Todo
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record, submit_job
from orchestrator.jobs.pace import QUICK
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.requests import send_request
from orchestrator.store.lease import LEASE_KEY, Lease
from orchestrator.store.owner import Owner
from orchestrator.store.protocol import StoreUnreachable
from tests.controller.world import World
from tests.support.interposed import InterposedStore, Operation
from tests.support.specs import job_spec

T = TypeVar("T")
WAIT_S = 20.0
"""For what must come: far more than it needs."""


@pytest.fixture
def side_by_side() -> Iterator[SideBySide]:
    with ThreadPoolExecutor(4) as threads:
        yield SideBySide(threads, keep_every_s=0.01)


def test_in_one_thread_it_goes_in_order_and_stops_when_leadership_is_lost() -> None:
    done: list[int] = []
    assert not one_by_one(done.append, range(5), lambda: len(done) < 3)
    assert done == [0, 1, 2]
    assert one_by_one(done.append, [7])


def test_while_the_slowest_is_waited_for_the_lease_is_kept(side_by_side: SideBySide) -> None:
    kept = threading.Semaphore(0)
    done: list[int] = []

    def slow(item: int) -> None:
        if item == 0:
            for _ in range(3):
                assert kept.acquire(timeout=WAIT_S)
        done.append(item)

    def keep() -> bool:
        kept.release()
        return True

    assert side_by_side(slow, range(6), keep)
    assert sorted(done) == list(range(6))


@pytest.mark.parametrize("why", ["an error", "leadership lost"])
def test_no_thread_goes_on_after_it(side_by_side: SideBySide, why: str) -> None:
    kept = threading.Semaphore(0)
    begun, ended = [0], [0]
    counting = threading.Lock()

    def work(item: int) -> None:
        with counting:
            begun[0] += 1
        if item == 0 and why == "an error":
            raise StoreUnreachable("away")
        for _ in range(5):
            assert kept.acquire(timeout=WAIT_S)
        with counting:
            ended[0] += 1

    def keep() -> bool:
        for _ in range(40):
            kept.release()
        return why == "an error"

    if why == "an error":
        with pytest.raises(StoreUnreachable):
            side_by_side(work, range(1000), keep)
        ended[0] += 1
    else:
        assert not side_by_side(work, range(1000), keep)
    assert begun == ended
    assert begun[0] < 1000, "what had not begun never begins"


def leading(
    world: World, around: Callable[[Operation, str], None] = lambda _operation, _key: None, spread: Spread = one_by_one
) -> tuple[Duty, Lease]:
    """A duty, and its lease, with `around` called before each request."""

    def between(operation: Operation, key: str, call: Callable[[], object]) -> object:
        around(operation, key)
        return call()

    store, clock = InterposedStore(world.store, between), world.clock
    owner = Owner(host="a", pid=1, started=0.0, label="a")
    lease = Lease(store, owner, clock=clock.monotonic, nonce=world.nonce, owner_is_dead=lambda _owner: False)
    duty = Duty(
        store,
        lease,
        lambda: {"local": world.fleet},
        now=clock.now,
        monotonic=clock.monotonic,
        nonce=world.nonce,
        log=world.log.append,
        pace=QUICK,
        spread=spread,
    )
    return duty, lease


def test_thousands_of_requests_on_a_slow_store_do_not_cost_the_lease() -> None:
    """Half a minute of reading them: longer than the ttl of the lease."""
    world, jobs = World(), 300

    def takes_its_time(_operation: Operation, _key: str) -> None:
        world.clock.elapsed_s += 0.1

    names = [f"job-{n}" for n in range(jobs)]
    for name in names:
        submit_job(world.store, job_spec(name), world.clock.now(), world.nonce)
        send_request(world.store, name, "cancel", now=world.clock.now(), by="ada", nonce=world.nonce)
    duty, lease = leading(world, takes_its_time)
    while any(load_record(world.store, name).value.phase is not JobPhase.CANCELLED for name in names):
        assert world.clock.elapsed_s < 3600, world.log[-10:]
        duty.turn()
        assert lease.held
        assert lease.epoch == 1


def test_what_was_read_when_leadership_was_lost_is_not_read_again() -> None:
    world, read, answers = World(), list[str](), [True] * 4 + [False]  # after bell and listing, and after each request
    for _ in range(5):
        send_request(world.store, "digits", "pause", now=world.clock.now(), by="ada", nonce=world.nonce)

    def remember(operation: Operation, key: str, call: Callable[[], object]) -> object:
        if operation == "get" and key.startswith(layout.TODO_REQUESTS):
            read.append(key)
        return call()

    def keep() -> bool:
        return not answers or answers.pop(0)

    def each(function: Callable[..., object], items: Iterable[object], /) -> bool:
        return one_by_one(function, items, keep)

    todo = Todo(InterposedStore(world.store, remember), world.clock.monotonic, QUICK, world.log.append, each)
    assert not todo.refresh(busy=True)
    assert todo.jobs == {}
    assert len(read) == 3
    assert todo.refresh(busy=True)
    assert len(todo.waiting("digits")) == 5
    assert len(read) == len(set(read)) == 5


def test_one_job_that_waits_for_the_store_does_not_cost_the_others_the_lease() -> None:
    """The heartbeat of one job is not answered until the lease has been renewed three times."""
    world = World().run(until=lambda world: world.step == 3)
    renewed = threading.Semaphore(0)
    world.agents_act()
    stuck = [True]

    def around(operation: Operation, key: str) -> None:
        if operation == "replace" and key == LEASE_KEY:
            renewed.release()
        if operation == "get" and key == layout.heartbeat_key("digits-g1-n0-a0") and stuck[0]:
            stuck[0] = False
            for _ in range(3):
                assert renewed.acquire(timeout=WAIT_S), "the lease is not kept"

    with ThreadPoolExecutor(4) as threads:

        def time_passes(function: Callable[[T], object], items: Iterable[T], keep: Callable[[], bool], /) -> bool:
            def keep_later() -> bool:
                world.clock.elapsed_s += 3.0  # well below the ttl of 20 s
                return keep()

            return SideBySide(threads, 0.01)(function, items, keep_later)

        duty, lease = leading(world, around, time_passes)
        duty.turn()
        assert not stuck[0]
        assert lease.held


def test_a_controller_has_no_part_in_a_later_leadership_of_its_process() -> None:
    """It stands still in a write; when it goes on, its process leads again, and what it has still to do is not done."""
    world = World()
    again: list[Lease] = []

    def around(operation: Operation, key: str) -> None:
        if operation == "replace" and key == layout.record_key("digits") and again:
            lease = again.pop()
            lease.step_down(5)
            assert lease.try_acquire()

    duty, lease = leading(world, around)
    again.append(lease)
    duty.turn()
    assert (lease.held, lease.epoch) == (True, 6)
    assert world.record.generation is not None or world.record.upcoming is not None
    assert world.fleet.launches == []
    duty.turn()
    assert len(world.fleet.launches) == 1
