"""One leads: on virtual clocks, each contender with its own."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, cast

import pytest

from orchestrator.store import Object, ReplyLost, Store, StoreError, document
from orchestrator.store.lease import LEASE_KEY, Lease, LeaseRecord, read_lease
from orchestrator.store.memory import MemoryStore
from orchestrator.store.owner import Owner

TTL_S = 15.0


class Link:
    """A contender's way to the store: it can be slow, or out of order."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.after_read: Callable[[], object] = lambda: None
        self.after_write: Callable[[], object] = lambda: None
        self.outage: Literal["writes are applied", "writes are not applied"] | None = None

    def get(self, key: str) -> Object | None:
        if self.outage is not None:
            raise StoreError("The store does not answer.")
        found = self._store.get(key)
        self.after_read()
        return found

    def create(self, key: str, body: bytes) -> str:
        return self._write(lambda: self._store.create(key, body))

    def replace(self, key: str, body: bytes, etag: str) -> str:
        return self._write(lambda: self._store.replace(key, body, etag))

    def _write(self, write: Callable[[], str]) -> str:
        if self.outage == "writes are not applied":
            raise ReplyLost("The reply was lost.")
        etag = write()
        if self.outage == "writes are applied":
            raise ReplyLost("The reply was lost.")
        self.after_write()
        return etag

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@dataclass
class Contender:
    """A lease with a clock of its own, which started whenever it liked."""

    store: Store
    name: str
    now_s: float
    dead: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        numbers = count()
        self.link = Link(self.store)
        self.lease = Lease(
            cast(Store, self.link),
            Owner(host=f"host-of-{self.name}", pid=1, started=0.0, label=self.name),
            ttl_s=TTL_S,
            clock=lambda: self.now_s,
            nonce=lambda: f"{self.name}-{next(numbers)}",
            owner_is_dead=lambda owner: owner.label in self.dead,
        )


@dataclass
class World:
    """Two contenders for one lease, whose clocks have nothing in common but their speed."""

    store: Store
    a: Contender
    b: Contender

    def wait(self, seconds: float) -> None:
        self.a.now_s += seconds
        self.b.now_s += seconds


@pytest.fixture
def world() -> World:
    store = MemoryStore()
    return World(store, Contender(store, "a", 1000.0), Contender(store, "b", 5.0))


def test_the_first_takes_it_and_the_second_does_not(world: World) -> None:
    assert not world.a.lease.held and world.a.lease.epoch == 0
    assert read_lease(world.store) is None
    assert world.a.lease.try_acquire()
    assert world.a.lease.held and world.a.lease.epoch == 1
    assert not world.b.lease.try_acquire()
    assert not world.b.lease.held
    record = read_lease(world.store)
    assert record is not None
    assert (record.owner.label, record.epoch, record.ttl_s, record.released) == ("a", 1, TTL_S, False)


def test_the_contract_holds_on_every_store(store: Store) -> None:
    a, b = Contender(store, "a", 0.0), Contender(store, "b", 0.0)
    assert a.lease.try_acquire() and not b.lease.try_acquire()
    a.lease.release()
    assert b.lease.try_acquire() and not a.lease.try_acquire()
    assert b.lease.epoch == 2


def test_who_renews_keeps_it_for_ever(world: World) -> None:
    world.a.lease.try_acquire()
    for _ in range(1000):
        world.wait(1.0)
        assert world.a.lease.try_acquire() and world.a.lease.held
        assert not world.b.lease.try_acquire()
    assert world.a.lease.epoch == 1, "an epoch is a leadership, not a renewal"


def test_it_is_renewed_at_half_of_its_time_and_not_before(world: World) -> None:
    world.a.lease.try_acquire()
    first = etag(world.store)
    world.wait(TTL_S / 2 - 0.1)
    assert world.a.lease.try_acquire() and etag(world.store) == first
    world.wait(0.2)
    assert world.a.lease.try_acquire() and etag(world.store) != first


def test_it_is_kept_in_the_middle_of_long_work_and_never_taken_there(world: World) -> None:
    world.a.lease.try_acquire()
    for _ in range(100):
        world.wait(TTL_S / 4)
        assert world.a.lease.keep() and not world.b.lease.keep()
        assert not world.b.lease.try_acquire()
    world.wait(2 * TTL_S)
    assert world.b.lease.try_acquire()
    assert not world.a.lease.keep()
    assert world.b.lease.held and world.b.lease.epoch == 2


def test_who_stalls_stops_by_its_own_clock_before_another_takes_over(world: World) -> None:
    world.a.lease.try_acquire()
    world.b.lease.try_acquire()
    stopped_at = taken_at = None
    for second in range(1, 40):
        world.wait(1.0)  # a does not come to renew
        if stopped_at is None and not world.a.lease.held:
            stopped_at = second
        if world.b.lease.try_acquire():
            taken_at = second
            break
    assert stopped_at == 12, "the ttl less a margin"
    assert taken_at == 18, "1.2 times the ttl"
    assert world.b.lease.epoch == 2


def test_who_wakes_after_a_takeover_has_lost(world: World) -> None:
    world.a.lease.try_acquire()
    world.b.lease.try_acquire()
    world.wait(1.2 * TTL_S)
    assert world.b.lease.try_acquire()
    assert not world.a.lease.held
    assert not world.a.lease.renew()
    assert not world.a.lease.try_acquire()
    assert world.b.lease.try_acquire() and world.b.lease.held, "and did no harm"


def test_who_wakes_in_time_goes_on(world: World) -> None:
    """Expired by its own clock, but nobody took over: no new leadership is needed."""
    world.a.lease.try_acquire()
    world.wait(100.0)
    assert not world.a.lease.held
    assert world.a.lease.try_acquire() and world.a.lease.held
    assert world.a.lease.epoch == 1


def test_a_watcher_counts_from_its_own_first_look(world: World) -> None:
    """However old the record is: nobody's clock is compared with another's."""
    world.a.lease.try_acquire()
    world.wait(1_000_000.0)
    assert not world.b.lease.try_acquire()
    world.wait(1.2 * TTL_S - 0.1)
    assert not world.b.lease.try_acquire()
    world.wait(0.2)
    assert world.b.lease.try_acquire()


def test_a_sign_of_life_starts_the_count_again(world: World) -> None:
    world.a.lease.try_acquire()
    world.b.lease.try_acquire()
    world.wait(17.0)
    world.a.lease.renew()
    world.wait(17.0)
    assert not world.b.lease.try_acquire()


def test_a_slow_reply_does_not_count_as_silence(world: World) -> None:
    """The request for the second look was sent early: what it saw is old by the time it comes."""
    world.a.lease.try_acquire()
    world.b.lease.try_acquire()
    world.b.link.after_read = lambda: world.wait(100.0)
    assert not world.b.lease.try_acquire()


def test_held_counts_from_before_the_request(world: World) -> None:
    """A renewal that took long is that much older when its reply comes."""
    world.a.lease.try_acquire()
    world.a.link.after_write = lambda: world.wait(13.0)
    assert world.a.lease.renew()
    assert not world.a.lease.held


def test_a_process_known_to_be_dead_is_not_waited_for(world: World) -> None:
    world.a.lease.try_acquire()
    assert not world.b.lease.try_acquire()
    world.b.dead.add("a")
    assert world.b.lease.try_acquire()
    assert world.b.lease.epoch == 2


def test_a_released_lease_is_free_at_once(world: World) -> None:
    world.a.lease.try_acquire()
    world.a.lease.release()
    assert not world.a.lease.held
    record = read_lease(world.store)
    assert record is not None and record.released
    assert world.b.lease.try_acquire()
    assert world.b.lease.epoch == 2
    world.a.lease.release()
    assert world.b.lease.try_acquire() and world.b.lease.held, "only one's own can be released"
    world.b.lease.release()
    assert world.a.lease.try_acquire() and world.a.lease.epoch == 3


def test_taking_again_what_one_released_is_a_new_leadership(world: World) -> None:
    world.a.lease.try_acquire()
    world.a.lease.release()
    assert world.a.lease.try_acquire() and world.a.lease.epoch == 2


def test_a_leadership_is_above_every_one_that_was_seen_even_if_the_lease_was_lost(world: World) -> None:
    world.a.lease.try_acquire()
    world.a.lease.step_down(7)
    world.store.delete("control/lease.json")
    assert world.a.lease.try_acquire() and world.a.lease.epoch == 8


def test_releasing_what_another_has_taken_does_nothing(world: World) -> None:
    world.a.lease.try_acquire()
    world.b.dead.add("a")
    world.b.lease.try_acquire()
    world.a.lease.release()
    record = read_lease(world.store)
    assert record is not None and record.owner.label == "b" and not record.released


def test_of_two_that_take_over_at_once_one_wins(world: World) -> None:
    """Both saw the same dead holder; the second comes when the first has written already."""
    c = Contender(world.store, "c", 77.0)
    c.lease.try_acquire()
    world.a.dead.add("c")
    world.b.dead.add("c")
    world.a.link.after_read = world.b.lease.try_acquire
    assert not world.a.lease.try_acquire()
    assert world.b.lease.held and world.b.lease.epoch == 2


def test_two_leases_of_one_process_are_two(world: World) -> None:
    """A daemon inside a test, say: the same owner, but what one of them holds the other does not."""
    owner, numbers = Owner("host", 1, 0.0, "the process"), count()
    one, other = (
        Lease(world.store, owner, TTL_S, lambda: 0.0, lambda: f"nonce-{next(numbers)}", lambda _: False)
        for _ in range(2)
    )
    assert one.try_acquire()
    assert not other.try_acquire() and not other.held


@pytest.mark.parametrize("outage", ["writes are applied", "writes are not applied"])
def test_a_lost_reply_of_a_renewal_loses_no_leadership(
    world: World, outage: Literal["writes are applied", "writes are not applied"]
) -> None:
    """The store goes out in the middle of a renewal: whether it was applied shows later."""
    world.a.lease.try_acquire()
    world.b.lease.try_acquire()
    world.a.link.outage = outage
    with pytest.raises(ReplyLost):
        world.a.lease.renew()
    assert world.a.lease.held, "still within what was renewed last"
    world.wait(13.0)
    assert not world.a.lease.held
    world.a.link.outage = None
    assert world.a.lease.try_acquire() and world.a.lease.held
    assert world.a.lease.epoch == 1


def test_a_lost_reply_of_the_first_write_is_found_again(world: World) -> None:
    def fail_from_now_on() -> None:
        world.a.link.outage = "writes are applied"

    world.a.link.after_read = fail_from_now_on
    with pytest.raises(ReplyLost):
        world.a.lease.try_acquire()
    world.a.link.after_read = lambda: None
    assert not world.a.lease.held
    world.a.link.outage = None
    assert world.a.lease.try_acquire() and world.a.lease.held
    assert world.a.lease.epoch == 1


def test_a_store_that_does_not_answer_is_an_error_and_not_a_loss(world: World) -> None:
    world.a.lease.try_acquire()
    world.a.link.outage = world.b.link.outage = "writes are not applied"
    world.wait(8.0)
    for contender in (world.a, world.b):
        with pytest.raises(StoreError):
            contender.lease.try_acquire()
    assert world.a.lease.held and not world.b.lease.held
    world.a.link.outage = None
    assert world.a.lease.try_acquire()


def test_whatever_happens_one_holds_it_and_the_epoch_grows() -> None:
    """Three contenders that come when they like, stall, release and lose replies."""
    leaderships = 0
    for seed in range(100):
        draw = random.Random(seed)
        store = MemoryStore()
        contenders = [Contender(store, name, draw.uniform(0, 1e6)) for name in "abc"]
        leader_of: dict[int, str] = {}
        for _ in range(400):
            for contender in contenders:
                contender.now_s += 1.0
            contender = draw.choice(contenders)
            contender.link.outage = draw.choice(["writes are applied", "writes are not applied", None, None, None])
            try:
                if draw.random() < 0.03:
                    contender.lease.release()
                elif draw.random() < 0.5:
                    contender.lease.try_acquire()
            except StoreError:
                pass  # it comes again later
            holders = [contender for contender in contenders if contender.lease.held]
            assert len(holders) <= 1, f"seed {seed}"
            for holder in holders:
                assert holder.lease.epoch >= max(leader_of, default=0), f"seed {seed}"
                assert leader_of.setdefault(holder.lease.epoch, holder.name) == holder.name, f"seed {seed}"
        leaderships += len(leader_of)
    assert leaderships > 300, "else too little happened"


def etag(store: Store) -> str:
    found = document.load(store, LEASE_KEY, LeaseRecord)
    assert found is not None
    return found.etag
