"""The controller's side of the pool: the fleet's protocol, by orders and reports in the bucket.

What a machine reports is the fleet's word on its instances. One that is not heard any more is lost together with what
runs on it, unless the agents there go on speaking: then only its host has died, and no job is ended for that.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from orchestrator.fleets.pool.records import (
    FORGOTTEN_AFTER,
    SILENT_AFTER_S,
    SPEAKS_WITHIN_S,
    Hosted,
    Order,
    Orders,
    Report,
    machine_of_key,
)
from orchestrator.fleets.pool.room import find_room, why_no_room
from orchestrator.fleets.pool.stillness import Watched
from orchestrator.fleets.protocol import FleetError, InstanceState, LaunchError, LaunchRequest, Offer, Sighting
from orchestrator.jobs import layout
from orchestrator.spec.models import Resources
from orchestrator.store import document
from orchestrator.store.document import Nonce, Stored
from orchestrator.store.protocol import Conflict, Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIES = 8
"""Orders are written by several controllers at times, hardly ever by many at once."""
LOOK_EVERY_S = 2.0
"""At all machines, however many jobs wait for one of them."""


@dataclass
class PoolFleet:
    """Instances on machines of one's own that have joined a store. May be used by several threads at once."""

    store: Store
    nonce: Nonce
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    silent_after_s: float = SILENT_AFTER_S
    _orders: Watched = field(init=False)
    _machines: dict[str, Watched] = field(default_factory=dict)
    _agents: dict[str, Watched] = field(default_factory=dict)
    _looked_s: float | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._orders = Watched(layout.POOL_ORDERS, self.monotonic)

    @property
    def lag_s(self) -> float:
        """An order is there as soon as it is written."""
        return 0.0

    def launch(self, request: LaunchRequest) -> None:
        """Order an instance from a machine with room for it. Whatever was ordered before stays as it is."""
        with self._answering(), self._lock:
            for _ in range(_TRIES):
                stored = self._read_orders()
                orders = stored.value if stored is not None else Orders()
                if orders.machine_of(request.instance) is not None:
                    return
                order = self._choose(request, orders)
                try:
                    self._write(stored, orders.with_order(request.instance, order))
                except Conflict:
                    continue
                return
        raise FleetError(f"{layout.POOL_ORDERS} in {self.store.url} is written by many others now")

    def _choose(self, request: LaunchRequest, orders: Orders) -> Order:
        """Raises LaunchError, and FleetError where machines have room of which nobody knows yet whether they live."""
        self._look_for_machines(orders)
        ready = {name: report for name, report in self._reports().items() if report.state == "ready"}
        heard = [report for name, report in ready.items() if self._is_heard(name)]
        room = find_room(request, heard, orders)
        if room is not None:
            return Order(machine=room.machine, seq=orders.seq + 1, request=request, given=room.given)
        awaited = [report for name, report in ready.items() if report not in heard and self._may_speak(name)]
        if find_room(request, [*heard, *awaited], orders) is not None:
            names = ", ".join(sorted(report.machine for report in awaited))
            raise FleetError(f"no word has come yet from {names}, by which it would be known that it is there")
        known = [*heard, *awaited]
        lost = {*ready, *self._unreadable()}.difference(report.machine for report in known)
        raise LaunchError(why_no_room(request, known, orders, sorted(lost)), kind="capacity")

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        """What the machines say of those that were ordered from them; one that has not taken an order starts."""
        with self._answering(), self._lock:
            stored = self._read_orders()
            orders = stored.value if stored is not None else Orders()
            ordered = {name: machine for name in instances if (machine := orders.machine_of(name)) is not None}
            for machine in set(ordered.values()):
                self._watched(machine).look(self.store)
            self._agents = {name: agent for name, agent in self._agents.items() if name in ordered}
            return {name: self._seen(name, machine, orders) for name, machine in ordered.items()}

    def terminate(self, instance: str) -> None:
        """Call the order off; its machine ends the instance as soon as it sees that."""
        with self._answering(), self._lock:
            for _ in range(_TRIES):
                stored = self._read_orders()
                if stored is None or instance not in stored.value.current:
                    return
                try:
                    self._write(stored, stored.value.without(instance, self.now()))
                except Conflict:
                    continue
                return
        raise FleetError(f"{layout.POOL_ORDERS} in {self.store.url} is written by many others now")

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:  # noqa: ARG002
        """One's own machines cost nothing by the hour. Whether there is room is seen when one is asked for it."""
        return (Offer(instance_type, "", "on_demand", 0.0),)

    # --- what machines say -------------------------------------------------------------------------------------------

    def _seen(self, instance: str, machine: str, orders: Orders) -> Sighting:
        if self._watched(machine).found is None:
            return Sighting(InstanceState.GONE, why=f"{machine} is not in the pool any more")
        report = self._report(machine)
        if report is None:
            return self._told_by_its_agent(instance, machine)
        hosted = report.instances.get(instance)
        if hosted is not None and hosted.state is InstanceState.GONE:
            return Sighting(InstanceState.GONE, hosted.lived_s, why=hosted.why)
        if report.state == "gone":
            return Sighting(InstanceState.GONE, why=f"{machine} has left the pool")
        if self._is_lost(instance, machine):
            silent_s = self._machines[machine].still_s
            return Sighting(InstanceState.GONE, why=f"{machine} has said nothing for {silent_s:.0f} s")
        return self._told(instance, hosted, report, orders)

    def _told(self, instance: str, hosted: Hosted | None, report: Report, orders: Orders) -> Sighting:
        """By a machine that is there."""
        if hosted is not None:
            return Sighting(hosted.state, hosted.lived_s)
        ended = orders.ended.get(instance)
        if ended is not None and report.orders_seq >= ended.seq:
            return Sighting(InstanceState.GONE, why=f"{report.machine} has ended it")
        return Sighting(InstanceState.STARTING)

    def _is_lost(self, instance: str, machine: str) -> bool:
        """Whether neither a machine nor the agent of an instance on it has said anything for long."""
        if self._machines[machine].still_s < self.silent_after_s / 3:  # then its agents are listened for too
            self._agents.pop(instance, None)
            return False
        agent = self._listen_to(instance)
        return self._is_silent(machine) and agent.still_s >= self.silent_after_s * 2 / 3

    def _told_by_its_agent(self, instance: str, machine: str) -> Sighting:
        """Where its machine's report cannot be read."""
        agent = self._listen_to(instance)
        if agent.still_s >= self.silent_after_s:
            return Sighting(InstanceState.GONE, why=f"it says nothing, and the report of {machine} cannot be read")
        return Sighting(InstanceState.STARTING if agent.found is None else InstanceState.RUNNING)

    def _listen_to(self, instance: str) -> Watched:
        agent = self._agents.setdefault(instance, Watched(layout.heartbeat_key(instance), self.monotonic))
        agent.look(self.store)
        return agent

    def _is_silent(self, machine: str) -> bool:
        return self._watched(machine).still_s >= self.silent_after_s

    def _is_heard(self, machine: str) -> bool:
        return self._watched(machine).has_moved and not self._is_silent(machine)

    def _may_speak(self, machine: str) -> bool:
        """Whether it has not been listened to for long enough to know."""
        return self._watched(machine).still_s < SPEAKS_WITHIN_S

    # --- reading and writing -----------------------------------------------------------------------------------------

    def _look_for_machines(self, orders: Orders) -> None:
        """Look at the reports of all machines, now and then; those of machines that are long gone are removed."""
        now_s = self.monotonic()
        if self._looked_s is not None and now_s - self._looked_s < LOOK_EVERY_S:
            return
        keys = [entry.key for entry in self.store.list(layout.POOL_MACHINES)]
        machines = [name for key in keys if (name := machine_of_key(key)) is not None]
        for name in set(self._machines).difference(machines):
            del self._machines[name]
        for name in machines:
            self._watched(name).look(self.store)
            report = self._report(name)
            if report is None or orders.of(name):
                continue
            is_over = report.state == "gone" or self._is_silent(name)
            if is_over and self.now() - report.at > FORGOTTEN_AFTER:
                self._forget(name)
        self._looked_s = now_s

    def _forget(self, machine: str) -> None:
        found = self._watched(machine).found
        try:
            self.store.delete(layout.pool_machine_key(machine), None if found is None else found.etag)
        except Conflict:
            return  # it has come back
        self._machines.pop(machine, None)

    def _reports(self) -> dict[str, Report]:
        return {name: report for name in self._machines if (report := self._report(name)) is not None}

    def _report(self, machine: str) -> Report | None:
        """None: there is none, or one that cannot be read; then nothing is expected of that machine."""
        found = self._watched(machine).found
        try:
            return None if found is None else document.parse(self.store, found, Report).value
        except StoreError:
            return None

    def _unreadable(self) -> list[str]:
        return [name for name, watched in self._machines.items() if watched.found and self._report(name) is None]

    def _watched(self, machine: str) -> Watched:
        return self._machines.setdefault(machine, Watched(layout.pool_machine_key(machine), self.monotonic))

    def _read_orders(self) -> Stored[Orders] | None:
        found = self._orders.look(self.store)
        return None if found is None else document.parse(self.store, found, Orders)

    def _write(self, stored: Stored[Orders] | None, new: Orders) -> None:
        """Raises Conflict when they are others by now."""
        if stored is None:
            document.create(self.store, layout.POOL_ORDERS, new, self.nonce)
        else:
            document.swap(self.store, layout.POOL_ORDERS, stored, new, self.nonce)

    @contextmanager
    def _answering(self) -> "Iterator[None]":
        try:
            yield
        except StoreError as error:
            raise FleetError(f"the pool's orders and reports cannot be had: {error}") from error
