"""The pool's fleet, against a store and a test's clock: once a name, no room twice, and what is lost is told."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from threading import Thread
from typing import Any

import pytest

from orchestrator.fleets.pool.fleet import LOOK_EVERY_S, PoolFleet
from orchestrator.fleets.pool.listing import look_at_pool, read_pool
from orchestrator.fleets.pool.owned import OwnedInPool
from orchestrator.fleets.pool.records import (
    REMEMBERED,
    SILENT_AFTER_S,
    SPEAKS_WITHIN_S,
    Given,
    Hosted,
    Order,
    Orders,
    Report,
)
from orchestrator.fleets.protocol import FleetError, InstanceState, LaunchError, Sighting
from orchestrator.jobs import layout
from orchestrator.store import document
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Store, StoreError
from tests.fleets.pool.reports import L4, NOW, hosted, report, request
from tests.support.interposed import InterposedStore

NAME = "digits-g1-n0-a0"


@dataclass
class Pool:
    """A store, machines that report when they are told to, and a clock that stands still."""

    store: MemoryStore = field(default_factory=MemoryStore)
    now_s: float = 0.0
    nonces: Any = field(default_factory=count)
    machines: dict[str, Report] = field(default_factory=dict)
    slow_s: float = 0.0
    """So far are the machines' clocks behind."""

    def nonce(self) -> str:
        return f"n{next(self.nonces)}"

    def fleet(self, store: Store | None = None) -> PoolFleet:
        return PoolFleet(store or self.store, self.nonce, now=self.now, monotonic=lambda: self.now_s)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.now_s)

    def say(self, *reports: Report) -> None:
        """Each machine reports once more."""
        for new in reports:
            self.machines[new.machine] = new
        for known in self.machines.values():
            again = known.model_copy(update={"at": self.now() - timedelta(seconds=self.slow_s), "nonce": self.nonce()})
            self.store.put(layout.pool_machine_key(known.machine), again.model_dump_json().encode())

    def heard(self, fleet: PoolFleet, *reports: Report) -> None:
        """Machines report under the eyes of a fleet."""
        self.now_s += LOOK_EVERY_S
        self.say(*reports)
        with pytest.raises((FleetError, LaunchError)):
            fleet.launch(request("listening-g1-n0-a0", workers=1000))
        self.now_s += LOOK_EVERY_S
        self.say()

    def names(self) -> list[str]:
        """What lies where reports do."""
        return [entry.key.removeprefix(layout.POOL_MACHINES) for entry in self.store.list(layout.POOL_MACHINES)]

    def tell(self, machine: str, **instances: Hosted) -> None:
        named = {name.replace("_", "-"): one for name, one in instances.items()}
        self.say(self.machines[machine].model_copy(update={"instances": named, "orders_seq": self.orders.seq}))

    @property
    def orders(self) -> Orders:
        stored = document.load(self.store, layout.POOL_ORDERS, Orders)
        return stored.value if stored is not None else Orders()

    def pass_time(self, fleet: PoolFleet, seconds: float, each: Callable[[], object] = lambda: None) -> Sighting:
        """Look every second, as a controller does; what is seen at the end."""
        for _ in range(int(seconds)):
            self.now_s += 1
            each()
            fleet.describe([NAME])
        return fleet.describe([NAME])[NAME]


@pytest.fixture
def pool() -> Pool:
    return Pool()


# --- launching ------------------------------------------------------------------------------------------------------


def test_launched_twice_by_two_controllers_it_is_ordered_once(pool: Pool) -> None:
    one, other = pool.fleet(), pool.fleet()
    pool.heard(one, report("a", (L4,)), report("b", (L4,)))
    pool.heard(other)
    one.launch(request(NAME))
    other.launch(request(NAME))
    one.launch(request(NAME))
    assert list(pool.orders.current) == [NAME]
    one.terminate(NAME)
    other.launch(request(NAME))
    assert pool.orders.current == {}, "what was called off is not started again"


def test_two_controllers_at_once_never_give_the_same_room_twice(pool: Pool) -> None:
    """One reads the orders, and before it writes its own the other has taken the last room."""
    other = pool.fleet()
    raced: list[str] = []

    def overtaken(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation in ("create", "replace") and key == layout.POOL_ORDERS and not raced:
            raced.append(key)
            other.launch(request("other-g1-n0-a0"))
        return call()

    one = pool.fleet(InterposedStore(pool.store, overtaken))
    pool.heard(other, report("a", (L4,)))
    pool.heard(one)
    with pytest.raises(LaunchError, match="0 of 1 NVIDIA L4 free \\(used by other\\)"):
        one.launch(request(NAME))
    assert list(pool.orders.current) == ["other-g1-n0-a0"]


def test_a_controller_that_died_before_it_ordered_left_nothing_and_after_it_the_next_finds_it(pool: Pool) -> None:
    class Killed(BaseException):
        pass

    def dies(when: str) -> Callable[[str, str, Callable[[], object]], object]:
        def at(operation: str, key: str, call: Callable[[], object]) -> object:
            if operation in ("create", "replace") and key == layout.POOL_ORDERS:
                if when == "after":
                    call()
                raise Killed
            return call()

        return at

    for when, ordered in (("before", []), ("after", [NAME])):
        dying = pool.fleet(InterposedStore(pool.store, dies(when)))
        pool.heard(dying, report("a", (L4,)))
        with pytest.raises(Killed):
            dying.launch(request(NAME))
        assert list(pool.orders.current) == ordered
    successor = pool.fleet()
    before = pool.orders
    successor.launch(request(NAME))
    assert pool.orders == before
    assert successor.describe([NAME])[NAME].state is InstanceState.STARTING


def test_many_launches_at_once_fill_the_pool_and_no_more(pool: Pool) -> None:
    fleet = pool.fleet()
    pool.heard(fleet, report("a", (L4,) * 3), report("b", (L4,) * 2))
    refused = []

    def launch(number: int) -> None:
        try:
            fleet.launch(request(f"job{number}-g1-n0-a0"))
        except LaunchError as error:
            refused.append(error.kind)

    threads = [Thread(target=launch, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [(order.machine, gpu) for order in pool.orders.current.values() for gpu in order.given.gpus]
    assert len(given) == len(set(given)) == 5
    assert refused == ["capacity"] * 3


def test_a_machine_that_was_never_heard_is_not_trusted_and_one_that_is_silent_is_left_out(pool: Pool) -> None:
    fleet = pool.fleet()
    pool.say(report("a", (L4,)))
    with pytest.raises(FleetError, match="no word has come yet from a"):
        fleet.launch(request(NAME))
    for _ in range(int(SILENT_AFTER_S)):
        pool.now_s += 1
        with pytest.raises((FleetError, LaunchError)) as refused:
            fleet.launch(request(NAME))
    assert isinstance(refused.value, LaunchError)
    assert refused.value.kind == "capacity"
    assert "the pool has no machine that can be heard (a cannot)" in str(refused.value)
    pool.say()
    pool.now_s += LOOK_EVERY_S
    fleet.launch(request(NAME))
    assert pool.orders.current[NAME].machine == "a"


def test_a_machine_of_which_nothing_is_known_yet_is_told_of_where_it_has_no_room_either(pool: Pool) -> None:
    pool.say(report("a", (L4,)))
    with pytest.raises(LaunchError, match=r"2 GPUs, .* wanted, and the pool has a: 1 of 1 NVIDIA L4 free"):
        pool.fleet().launch(request(NAME, workers=2))


@pytest.mark.parametrize("spoke_since", [True, False])
def test_who_was_heard_an_hour_ago_is_not_trusted_and_is_found_dead(pool: Pool, spoke_since: bool) -> None:
    fleet = pool.fleet()
    pool.heard(fleet, report("a", (L4,)))
    if not spoke_since:
        with pytest.raises(LaunchError):
            fleet.launch(request("listening-g1-n0-a0", workers=1000))
    pool.now_s += 3600
    with pytest.raises(FleetError, match="no word has come yet from a"):
        fleet.launch(request(NAME))
    for _ in range(2):
        pool.now_s += SPEAKS_WITHIN_S / 2
        with pytest.raises((FleetError, LaunchError)):
            fleet.launch(request(NAME))
    with pytest.raises(LaunchError, match=r"no machine that can be heard \(a cannot\)"):
        fleet.launch(request(NAME))


def test_a_controller_that_is_slow_hears_those_that_live_and_loses_those_that_do_not(pool: Pool) -> None:
    """Each of its ticks takes longer than a machine takes to speak."""
    fleet = pool.fleet()
    pool.say(report("a", (L4,)))
    for _ in range(2):
        pool.now_s += 20
        pool.say()
        with pytest.raises((FleetError, LaunchError)):
            fleet.launch(request("listening-g1-n0-a0", workers=1000))
    fleet.launch(request(NAME))
    pool.tell("a", digits_g1_n0_a0=hosted(gpus=(0,)))
    assert fleet.describe([NAME])[NAME].state is InstanceState.RUNNING
    for _ in range(8):
        pool.now_s += 20
        found = fleet.describe([NAME])[NAME]
    assert found.state is InstanceState.GONE


def test_for_two_that_go_together_none_is_ordered_where_there_is_room_for_one(pool: Pool) -> None:
    """Else one would be ordered and called off again and again, each time under another name."""
    fleet = pool.fleet()
    pool.heard(fleet, report("a", (L4,)))
    two = request(NAME, count=2, beside=("digits-g1-n1-a0",))
    with pytest.raises(LaunchError, match=r"2 times 1 GPU, .* wanted, and the pool has a: 1 of 1 NVIDIA L4 free$"):
        fleet.launch(two)
    assert pool.orders == Orders()
    pool.heard(fleet, report("b", (L4,)))
    fleet.launch(two)
    fleet.launch(request("digits-g1-n1-a0", count=2, beside=(NAME,)))
    assert {order.machine for order in pool.orders.current.values()} == {"a", "b"}


@pytest.mark.parametrize("state", ["leaving", "gone"])
def test_a_machine_that_leaves_is_given_nothing(pool: Pool, state: str) -> None:
    fleet = pool.fleet()
    pool.heard(fleet, report("a", (L4,), state=state))
    with pytest.raises(LaunchError, match="the pool has no machine"):
        fleet.launch(request(NAME))


def test_many_jobs_that_wait_look_at_the_machines_together(pool: Pool) -> None:
    """Each asks again and again, and in a bucket each look at each machine is billed."""
    asked: list[str] = []

    def counted(operation: str, key: str, call: Callable[[], object]) -> object:
        if key.startswith(layout.POOL_MACHINES):
            asked.append(operation)
        return call()

    fleet = pool.fleet(InterposedStore(pool.store, counted))
    pool.heard(fleet, report("a", (L4,)), report("b", (L4,)))
    asked.clear()
    for number in range(20):
        with pytest.raises(LaunchError):
            fleet.launch(request(f"job{number}-g1-n0-a0", workers=2))
    assert len(asked) == 3, asked


# --- describing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fleet(pool: Pool) -> PoolFleet:
    """With an instance ordered from machine a."""
    fleet = pool.fleet()
    pool.heard(fleet, report("a", (L4,)))
    fleet.launch(request(NAME))
    return fleet


def test_an_order_that_is_not_taken_yet_starts_and_then_what_the_machine_says_holds(
    pool: Pool, fleet: PoolFleet
) -> None:
    assert fleet.describe([NAME, "unknown-g1-n0-a0"]) == {NAME: Sighting(InstanceState.STARTING)}
    pool.tell("a", digits_g1_n0_a0=hosted(gpus=(0,)))
    assert fleet.describe([NAME])[NAME] == Sighting(InstanceState.RUNNING, 10.0)
    gone = hosted(InstanceState.GONE, gpus=(0,)).model_copy(update={"why": "the disk is full"})
    pool.tell("a", digits_g1_n0_a0=gone)
    assert fleet.describe([NAME])[NAME] == Sighting(InstanceState.GONE, 10.0, why="the disk is full")


def test_called_off_it_is_gone_only_when_its_machine_has_seen_that(pool: Pool, fleet: PoolFleet) -> None:
    pool.tell("a", digits_g1_n0_a0=hosted(gpus=(0,)))
    fleet.terminate(NAME)
    fleet.terminate(NAME)
    assert fleet.describe([NAME])[NAME].state is InstanceState.RUNNING
    with pytest.raises(LaunchError, match="used by digits"):
        fleet.launch(request("other-g1-n0-a0"))
    pool.tell("a")
    assert fleet.describe([NAME])[NAME].state is InstanceState.GONE
    fleet.launch(request("other-g1-n0-a0"))


def test_called_off_before_it_was_taken_it_is_gone_when_the_machine_has_read_the_orders(
    pool: Pool, fleet: PoolFleet
) -> None:
    fleet.terminate(NAME)
    assert fleet.describe([NAME])[NAME].state is InstanceState.STARTING
    pool.tell("a")
    assert fleet.describe([NAME])[NAME].state is InstanceState.GONE


def test_a_machine_that_left_has_taken_its_instances_along(pool: Pool, fleet: PoolFleet) -> None:
    pool.say(pool.machines["a"].model_copy(update={"state": "gone"}))
    assert fleet.describe([NAME])[NAME] == Sighting(InstanceState.GONE, why="a has left the pool")


def test_what_stands_still_for_long_is_lost_and_not_before(pool: Pool, fleet: PoolFleet) -> None:
    pool.tell("a", digits_g1_n0_a0=hosted(gpus=(0,)))
    assert pool.pass_time(fleet, SILENT_AFTER_S - 2).state is InstanceState.RUNNING
    lost = pool.pass_time(fleet, 4)
    assert lost.state is InstanceState.GONE
    assert "a has said nothing for 6" in lost.why


def test_while_its_agent_speaks_no_job_is_ended_for_want_of_its_host(pool: Pool, fleet: PoolFleet) -> None:
    pool.tell("a", digits_g1_n0_a0=hosted(gpus=(0,)))

    def beat() -> None:
        pool.store.put(layout.heartbeat_key(NAME), json.dumps({"count": pool.now_s}).encode())

    assert pool.pass_time(fleet, 10 * SILENT_AFTER_S, beat).state is InstanceState.RUNNING
    assert pool.pass_time(fleet, SILENT_AFTER_S).state is InstanceState.GONE


def test_time_in_which_nobody_could_look_tells_little_of_the_machine(pool: Pool, fleet: PoolFleet) -> None:
    """The store was away for all of them, or this controller was asleep."""
    pool.tell("a", digits_g1_n0_a0=hosted(gpus=(0,)))
    pool.pass_time(fleet, 10)
    pool.now_s += 3600
    assert pool.pass_time(fleet, SILENT_AFTER_S - 30).state is InstanceState.RUNNING
    assert pool.pass_time(fleet, 30).state is InstanceState.GONE


def test_what_cannot_be_read_of_one_machine_stops_no_other(pool: Pool) -> None:
    fleet = pool.fleet()
    pool.heard(fleet, report("a", (L4,)), report("b", (L4,)))
    broken = pool.machines.pop("b").model_dump_json().replace("10.0.0.1", "10.1")
    pool.store.put(layout.pool_machine_key("b"), broken.encode())
    pool.store.put(f"{layout.POOL_MACHINES}notes.txt", b"hello")
    fleet.launch(request(NAME))
    assert pool.orders.current[NAME].machine == "a"
    with pytest.raises(LaunchError, match=r"used by digits\); nothing is heard of b$"):
        fleet.launch(request("other-g1-n0-a0"))
    look = look_at_pool(pool.store, pool.now())
    assert ([machine.report.machine for machine in look.machines], list(look.unreadable)) == (["a"], ["b"])
    assert "no Report" in look.unreadable["b"]


def test_of_an_instance_whose_machine_cannot_be_read_its_agent_tells(pool: Pool, fleet: PoolFleet) -> None:
    """The machine may run a later version; what trains there is not ended for it."""
    del pool.machines["a"]
    pool.store.put(layout.pool_machine_key("a"), b"{}")
    assert fleet.describe([NAME])[NAME].state is InstanceState.STARTING

    def beat() -> None:
        pool.store.put(layout.heartbeat_key(NAME), json.dumps({"count": pool.now_s}).encode())

    assert pool.pass_time(fleet, 3 * SILENT_AFTER_S, beat).state is InstanceState.RUNNING
    lost = pool.pass_time(fleet, SILENT_AFTER_S)
    assert (lost.state, "the report of a cannot be read" in lost.why) == (InstanceState.GONE, True)


def test_a_store_that_is_away_is_no_word_of_the_fleet(pool: Pool) -> None:
    def away(operation: str, key: str, call: Callable[[], object]) -> object:
        raise StoreError("the store is away")

    fleet = pool.fleet(InterposedStore(pool.store, away))
    for ask in (lambda: fleet.describe([NAME]), lambda: fleet.launch(request(NAME)), lambda: fleet.terminate(NAME)):
        with pytest.raises(FleetError, match="the store is away"):
            ask()


# --- what is left ---------------------------------------------------------------------------------------------------


def test_a_machine_that_is_gone_or_silent_for_a_day_is_forgotten(pool: Pool) -> None:
    fleet = pool.fleet()
    pool.heard(fleet, report("a", (L4,)), report("gone", state="gone"), report("silent"))
    del pool.machines["gone"], pool.machines["silent"]
    for hours, left in ((23, ["a.json", "gone.json", "silent.json"]), (2, ["a.json"])):
        pool.now_s += hours * 3600
        for _ in range(int(SILENT_AFTER_S)):
            pool.heard(fleet)
        assert pool.names() == left


def test_a_machine_whose_clock_is_days_behind_is_not_forgotten_while_it_speaks_or_is_to_run_something(
    pool: Pool,
) -> None:
    """Nobody decides by its clock: also a controller that has just begun to listen."""
    first = pool.fleet()
    pool.heard(first, report("a", (L4,)))
    first.launch(request(NAME))
    pool.tell("a", digits_g1_n0_a0=hosted(gpus=(0,)))
    pool.slow_s = 3 * 24 * 3600
    pool.heard(first, report("b", (L4,)))
    fleet = pool.fleet()
    with pytest.raises((FleetError, LaunchError)):
        fleet.launch(request("listening-g1-n0-a0", workers=1000))
    assert pool.names() == ["a.json", "b.json"]
    for _ in range(2 * int(SILENT_AFTER_S)):
        pool.now_s += 1
        with pytest.raises((FleetError, LaunchError)):
            fleet.launch(request("listening-g1-n0-a0", workers=1000))
    assert pool.names() == ["a.json"], "it has an order, and its agents may train on"
    assert [look.report.machine for look in read_pool(pool.store, pool.now())] == ["a"]


def test_what_was_called_off_is_remembered_for_a_day(pool: Pool, fleet: PoolFleet) -> None:
    def ended() -> Iterable[str]:
        return pool.orders.ended

    fleet.terminate(NAME)
    for hours, kept in ((23, [NAME, "a-g1-n0-a0"]), (2, ["a-g1-n0-a0", "b-g1-n0-a0"])):
        pool.now_s += hours * 3600
        pool.heard(fleet)
        new = f"{'a' if hours == 23 else 'b'}-g1-n0-a0"
        fleet.launch(request(new))
        fleet.terminate(new)
        assert sorted(ended()) == sorted(kept)


def test_of_many_that_were_called_off_the_newest_are_remembered(pool: Pool) -> None:
    orders = Orders()
    for number in range(REMEMBERED + 10):
        name = f"digits-g{number}-n0-a0"
        order = Order(machine="a", seq=2 * number, request=request(name), given=Given())
        orders = orders.with_order(name, order).model_copy(update={"seq": 2 * number})
        orders = orders.without(name, NOW)
    assert len(orders.ended) == REMEMBERED
    assert "digits-g9-n0-a0" not in orders.ended
    assert "digits-g10-n0-a0" in orders.ended


def test_what_belongs_to_no_job_is_found_on_the_machines_and_ended(pool: Pool, fleet: PoolFleet) -> None:
    pool.tell("a", digits_g1_n0_a0=hosted(gpus=(0,)))
    held = OwnedInPool(fleet)
    [owned] = held.owned()
    assert (owned.instance, owned.where, owned.usd_per_hour) == (NAME, "the pool, a", 0.0)
    held.end(owned.id)
    assert pool.orders.current == {}
    assert held.owned() == [], "it ends as soon as its machine hears of that"
    [look] = read_pool(pool.store, pool.now())
    assert (sorted(look.held), sorted(look.ending), look.free.gpus) == ([NAME], [NAME], ())
    [look] = read_pool(pool.store, pool.now() + timedelta(seconds=2 * SILENT_AFTER_S))
    assert (look.state, look.held) == ("silent", {}), "of a machine that is not heard"
