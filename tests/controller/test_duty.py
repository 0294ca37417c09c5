"""One process's part as a controller: it leads, stands by, takes over, and gives way; on virtual clocks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import count

import pytest

from orchestrator.controller.duty import STANDBY_TICK_S, STORE_AWAY_TICK_S, Duty
from orchestrator.fleets.protocol import Fleet, FleetError, InstanceState
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import submit_job
from orchestrator.jobs.pace import THRIFTY, Pace
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.removal import remove_job
from orchestrator.store.lease import Lease, read_lease
from orchestrator.store.owner import Owner
from orchestrator.store.protocol import Store, StoreUnreachable
from tests.controller.world import World
from tests.support.interposed import Away, InterposedStore

PACE = THRIFTY


class Daemons:
    """Some duties on the store of one world, each called when it wants to be."""

    def __init__(self, world: World, *names: str, pace: Pace = PACE) -> None:
        self.world = world
        self.log: list[str] = []
        self.refusals = 0
        self.stores = {name: InterposedStore(world.store) for name in names}
        self.duties = {name: self._duty(name, self.stores[name], pace) for name in names}
        self.due = dict.fromkeys(names, 0.0)

    def _duty(self, name: str, store: Store, pace: Pace) -> Duty:
        numbers = count()
        clock = self.world.clock

        def nonce() -> str:
            return f"{name}{next(numbers):08d}"

        owner = Owner(host=f"host-of-{name}", pid=1, started=0.0, label=name)
        return Duty(
            store,
            Lease(store, owner, clock=clock.monotonic, nonce=nonce, owner_is_dead=lambda _owner: False),
            self._open_fleets,
            now=clock.now,
            monotonic=clock.monotonic,
            nonce=nonce,
            log=lambda line: self.log.append(f"{name}: {line}"),
            pace=pace,
        )

    def _open_fleets(self) -> Mapping[str, Fleet]:
        """Not before the store has refused it so many times."""
        if self.refusals:
            self.refusals -= 1
            raise StoreUnreachable("no answer")
        return {"local": self.world.fleet}

    def run(self, until: Callable[[], bool], within_s: float = 300.0) -> float:
        """Let time pass until it is so; how long it took."""
        began_s = self.world.clock.elapsed_s
        while not until():
            assert self.world.clock.elapsed_s - began_s < within_s, "\n".join(self.log[-20:])
            for name, duty in self.duties.items():
                if self.world.clock.elapsed_s >= self.due[name]:
                    self.due[name] = self.world.clock.elapsed_s + duty.turn()
            self.world.agents_act()
        return self.world.clock.elapsed_s - began_s


@pytest.fixture
def world() -> World:
    return World()


def test_it_brings_a_job_to_its_end_and_is_idle_then(world: World) -> None:
    daemons = Daemons(world, "a")
    daemons.run(world.at_rest)
    assert world.record.phase is JobPhase.SUCCEEDED
    began_s = world.clock.elapsed_s
    daemons.run(lambda: world.clock.elapsed_s > began_s + 60)
    assert 50 < daemons.duties["a"].idle_s < 66


def test_it_looks_less_often_while_jobs_do_nothing_but_train(world: World) -> None:
    pace = replace(PACE, quiet_tick_s=2 * PACE.tick_s)
    daemons = Daemons(world, "a", pace=pace)
    assert daemons.duties["a"].turn() == pace.tick_s, "it launches"
    daemons.run(lambda: world.step >= 3)
    assert daemons.duties["a"].turn() == pace.quiet_tick_s
    world.ask("pause")
    assert daemons.duties["a"].turn() == pace.tick_s, "its workers are to drain"


def test_the_next_on_another_machine_acts_within_thirty_seconds(world: World) -> None:
    daemons = Daemons(world, "a", "b")
    daemons.run(lambda: world.step >= 3)
    assert [line for line in daemons.log if "b: standing by" in line]
    del daemons.duties["a"]  # it dies, and nobody knows
    world.ask("pause")
    assert daemons.run(lambda: world.record.wanted == "pause" or world.record.phase.over) < 30
    assert "b: leading, epoch 2" in daemons.log


def test_who_resigns_is_followed_at_once(world: World) -> None:
    daemons = Daemons(world, "a", "b")
    daemons.run(lambda: world.step >= 3)
    daemons.duties.pop("a").resign()
    assert daemons.run(lambda: "b: leading, epoch 2" in daemons.log) <= 2 * STANDBY_TICK_S


def test_a_leader_whose_fleets_could_not_be_opened_for_the_store_was_away_opens_them_later(
    world: World,
) -> None:
    daemons = Daemons(world, "a")
    daemons.refusals = 2
    assert daemons.run(lambda: world.step >= 3) < 30
    assert [line for line in daemons.log if "leading" in line] == ["a: leading, epoch 1"]


def test_who_has_nothing_to_do_retires_unless_somebody_rings_as_it_does(world: World) -> None:
    daemons = Daemons(world, "a")
    daemons.run(world.at_rest)
    duty = daemons.duties["a"]
    duty.turn()
    remove_job(world.store, "digits", world.clock.now(), world.nonce)
    submit_job(world.store, world.spec, world.clock.now(), world.nonce)  # and sees that one leads
    assert not duty.retire()
    daemons.run(world.at_rest)
    assert world.record.phase is JobPhase.SUCCEEDED
    duty.turn()
    assert duty.retire()
    lease = read_lease(world.store)
    assert lease is not None and lease.released


def test_who_cannot_tell_whether_somebody_rang_does_not_retire(world: World) -> None:
    daemons = Daemons(world, "a")
    daemons.run(world.at_rest)
    daemons.stores["a"].around = Away()
    assert not daemons.duties["a"].retire()


def test_jobs_whose_fleet_does_not_answer_are_no_idleness(world: World) -> None:
    daemons = Daemons(world, "a")
    daemons.run(lambda: world.step >= 3)

    def away(_instances: Iterable[str]) -> Mapping[str, InstanceState]:
        raise FleetError("no answer")

    world.fleet.describe = away  # type: ignore[method-assign,assignment]
    began_s = world.clock.elapsed_s
    daemons.run(lambda: world.clock.elapsed_s > began_s + 60)
    assert daemons.duties["a"].idle_s <= PACE.idle_tick_s
    del world.fleet.describe
    daemons.run(world.at_rest)
    assert world.record.phase is JobPhase.SUCCEEDED


def test_a_job_that_cannot_be_read_is_no_idleness_and_one_that_was_never_completed_is(world: World) -> None:
    world.store.put(layout.record_key("digits"), b"{")
    daemons = Daemons(world, "a")
    daemons.run(lambda: world.clock.elapsed_s > 60)
    assert daemons.duties["a"].idle_s <= PACE.idle_tick_s
    world.store.delete(layout.record_key("digits"))
    daemons.run(lambda: world.clock.elapsed_s > 120)
    assert daemons.duties["a"].idle_s > 50


def test_a_store_that_is_away_is_told_once_and_outlived(world: World) -> None:
    daemons = Daemons(world, "a")
    daemons.run(lambda: world.step >= 3)
    away = Away()
    daemons.stores["a"].around = away
    began_s = world.clock.elapsed_s
    daemons.run(lambda: world.clock.elapsed_s > began_s + 60)
    assert daemons.duties["a"].idle_s <= STORE_AWAY_TICK_S, "not to see whether there is something to do is not to idle"
    assert len([line for line in daemons.log if "the store is away" in line]) <= 3
    away.away = False
    daemons.run(world.at_rest)
    assert world.record.phase is JobPhase.SUCCEEDED
