"""The pool as a person sees it: its machines, what is free on them, and what they run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.fleets.pool.records import (
    FORGOTTEN_AFTER,
    SILENT_AFTER_S,
    Given,
    Hosted,
    Orders,
    Report,
    free_of,
    held_on,
    kinds_of,
    machine_of_key,
)
from orchestrator.jobs import layout
from orchestrator.store import document
from orchestrator.store.protocol import Store, StoreError


@dataclass(frozen=True)
class PoolMachine:
    """One machine."""

    report: Report
    state: str
    """As it says itself; 'silent' where its last word is old, by the clocks of both."""
    seen_s: float
    """How old its last word is."""
    held: Mapping[str, tuple[str, Given]]
    """By instance, the job and what is taken."""
    free: Given
    ending: frozenset[str] = frozenset()
    """Of these, those that were called off and end."""

    @property
    def instances(self) -> dict[str, Hosted | None]:
        """What it runs, or is to run: what it says of it, if it has."""
        return {name: self.report.instances.get(name) for name in self.held}

    @property
    def jobs(self) -> list[str]:
        """Whose instances these are."""
        return sorted({job for job, _ in self.held.values()})

    @property
    def kinds(self) -> Mapping[str, int]:
        """How many GPUs of each kind."""
        return kinds_of(self.report.gpus)

    def as_data(self) -> dict[str, Any]:
        """For -o json."""
        report = self.report
        return {
            "name": report.machine,
            "state": self.state,
            "gpus": [gpu.model_dump() for gpu in report.gpus],
            "gpus_free": list(self.free.gpus),
            "cores": report.cores,
            "cores_free": self.free.cores if not report.gpus else None,
            "labels": report.labels,
            "address": report.address,
            "jobs": self.jobs,
            "instances": sorted(self.held),
            "seen_s": round(self.seen_s, 1),
            "joined_at": report.joined_at.isoformat(),
            "host": report.host.label,
            "pid": report.host.pid,
        }


@dataclass(frozen=True)
class Pool:
    """All that can be said of a store's pool."""

    machines: tuple[PoolMachine, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """By the names of the machines whose reports cannot be read, why."""

    def as_data(self) -> list[dict[str, Any]]:
        """For -o json."""
        unreadable = [{"name": name, "state": "unreadable", "why": why} for name, why in self.unreadable.items()]
        return [machine.as_data() for machine in self.machines] + unreadable


def read_pool(store: Store, now: datetime) -> list[PoolMachine]:
    """The machines of the pool whose reports can be read (see `look_at_pool`)."""
    return list(look_at_pool(store, now).machines)


def look_at_pool(store: Store, now: datetime) -> Pool:
    """The machines in order of their names; one that is gone or silent for a day, and runs nothing, is left out."""
    machines = [name for entry in store.list(layout.POOL_MACHINES) if (name := machine_of_key(entry.key)) is not None]
    if not machines:
        return Pool()
    stored = document.load(store, layout.POOL_ORDERS, Orders)
    orders = stored.value if stored is not None else Orders()
    found, unreadable = list[PoolMachine](), dict[str, str]()
    for name in machines:
        read = store.get(layout.pool_machine_key(name))
        if read is None:
            continue
        try:
            report = document.parse(store, read, Report).value
        except StoreError as error:
            unreadable[name] = str(error)
            continue
        if now - report.at < FORGOTTEN_AFTER or orders.of(name):
            found.append(_machine(report, orders, now))
    return Pool(tuple(found), unreadable)


def _machine(report: Report, orders: Orders, now: datetime) -> PoolMachine:
    seen_s = max(0.0, (now - report.at).total_seconds())
    is_silent = report.state != "gone" and seen_s > SILENT_AFTER_S
    held = held_on(report, orders) if report.state != "gone" else {}
    ending = frozenset(held).difference(orders.current)
    if is_silent:  # whether they have ended nobody can tell, and they do as soon as it can be told
        held, ending = {name: part for name, part in held.items() if name not in ending}, frozenset()
    return PoolMachine(
        report=report,
        state="silent" if is_silent else report.state,
        seen_s=seen_s,
        held=held,
        free=free_of(report, (given for _, given in held.values())),
        ending=ending,
    )


def in_all(machines: Iterable[PoolMachine]) -> str:
    """What can be had of all together: '3 of 4 GPUs and 5 of 8 cores'."""
    ready = [machine for machine in machines if machine.state == "ready"]
    gpus = [machine for machine in ready if machine.report.gpus]
    cores = [machine for machine in ready if not machine.report.gpus]
    parts = []
    if gpus:
        parts.append(f"{sum(len(m.free.gpus) for m in gpus)} of {sum(len(m.report.gpus) for m in gpus)} GPUs")
    if cores or not gpus:
        parts.append(f"{sum(m.free.cores for m in cores)} of {sum(m.report.cores for m in cores)} cores")
    return " and ".join(parts)
