"""What stands in the bucket of the pool: the orders, and what each machine says of itself. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from orchestrator.errors import UsageError
from orchestrator.fleets.protocol import InstanceState, LaunchRequest
from orchestrator.jobs import layout
from orchestrator.store.document import Document

SILENT_AFTER_S = 60.0
"""A machine that has said nothing for so long is lost, if the agents on it say nothing either."""
SPEAKS_WITHIN_S = 25.0
"""A machine that lives says something by then, however thrifty it is."""
REMEMBERED = 500
"""Of the orders that have ended no more than these are remembered, the newest: all machines read them all."""
FORGOTTEN_AFTER = timedelta(days=1)
"""A machine that is gone for so long is not shown any more, and an order that has ended is not remembered."""


class Frozen(BaseModel):
    """A part of a document."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Gpu(Frozen):
    """A GPU of a machine."""

    index: int
    """As NVML numbers it."""
    name: str
    memory_bytes: int


class Given(Frozen):
    """What of a machine an instance has: GPUs, or cores where the machine has none."""

    cores: int = 0
    gpus: tuple[int, ...] = ()


class Order(Frozen):
    """An instance that a machine is to run."""

    machine: str
    seq: int
    """Of the orders when it was written."""
    request: LaunchRequest
    given: Given


class Ended(Frozen):
    """An order that was called off: its instance never starts again."""

    machine: str
    seq: int
    """Of the orders when it was called off."""
    at: datetime


class Orders(Document):
    """All that the machines of the pool are to run, by the instance's name. Written by controllers, read by hosts."""

    current: dict[str, Order] = Field(default_factory=dict)
    ended: dict[str, Ended] = Field(default_factory=dict)

    def machine_of(self, instance: str) -> str | None:
        """Where an instance was ordered; None: nowhere, as far as is remembered."""
        found = self.current.get(instance) or self.ended.get(instance)
        return None if found is None else found.machine

    def of(self, machine: str) -> dict[str, Order]:
        """What one machine is to run."""
        return {name: order for name, order in self.current.items() if order.machine == machine}

    def with_order(self, instance: str, order: Order) -> Self:
        """With one more."""
        return self.model_copy(update={"current": {**self.current, instance: order}})

    def without(self, instance: str, now: datetime) -> Self:
        """With one called off; what was called off long ago is forgotten, or many orders before."""
        order = self.current[instance]
        kept = {name: ended for name, ended in self.ended.items() if now - ended.at < FORGOTTEN_AFTER}
        newest = sorted(kept, key=lambda name: kept[name].seq)[1 - REMEMBERED :]
        kept = {name: kept[name] for name in newest}
        kept[instance] = Ended(machine=order.machine, seq=self.seq + 1, at=now)
        current = {name: other for name, other in self.current.items() if name != instance}
        return self.model_copy(update={"current": current, "ended": kept})


class Hosted(Frozen):
    """An instance, as the machine that runs it sees it."""

    state: InstanceState
    job: str
    given: Given
    lived_s: float | None = None
    why: str = ""
    """Why it is gone, where that is known."""


class Host(Frozen):
    """The process that speaks for a machine (see `orchestrator.store.owner`)."""

    host: str
    pid: int
    started: float
    label: str


class Report(Document):
    """What a machine has and does, as its host says from time to time. One writer: the host that has the name."""

    machine: str
    life: str
    """Of this host process and no other: by it two hosts of one name are told apart."""
    host: Host
    state: Literal["ready", "leaving", "gone"]
    """leaving: its agents drain, and it takes no more orders; gone: they have ended, and so has it."""
    count: int
    """Of the reports of this life: that one follows the other shows that the machine lives."""
    at: datetime
    """By its own clock, for people: nobody decides by it."""
    joined_at: datetime
    address: str
    """Where other machines reach its instances, in IPv4."""
    cores: int
    gpus: tuple[Gpu, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    orders_seq: int = 0
    """The orders that it has carried out: what was written later it may not have seen."""
    instances: dict[str, Hosted] = Field(default_factory=dict)
    """Those that were ordered from it and not called off, and those that still run."""

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        return str(IPv4Address(address))

    def runs(self, instance: str) -> bool:
        """Whether an instance is there, or about to start."""
        hosted = self.instances.get(instance)
        return hosted is not None and hosted.state is not InstanceState.GONE


def machine_of_key(key: str) -> str | None:
    """The machine whose report lies there; None: something else does."""
    name = key.removeprefix(layout.POOL_MACHINES).removesuffix(".json")
    try:
        return name if layout.pool_machine_key(name) == key else None
    except UsageError:
        return None


def held_on(report: Report, orders: Orders) -> dict[str, tuple[str, Given]]:
    """By instance, the job and what is taken of a machine: ordered from it and not gone, or still running there."""
    held = {name: (hosted.job, hosted.given) for name, hosted in report.instances.items() if report.runs(name)}
    for name, order in orders.of(report.machine).items():
        if name not in report.instances:
            held[name] = (order.request.job, order.given)
    return held


def free_of(report: Report, taken: Iterable[Given]) -> Given:
    """What is left of a machine. Cores are counted only where there are no GPUs."""
    parts = list(taken)
    if report.gpus:
        used = {gpu for part in parts for gpu in part.gpus}
        return Given(gpus=tuple(gpu.index for gpu in report.gpus if gpu.index not in used))
    return Given(cores=max(0, report.cores - sum(part.cores for part in parts)))


def kinds_of(gpus: Iterable[Gpu]) -> Mapping[str, int]:
    """How many of each kind of GPU."""
    kinds: dict[str, int] = {}
    for gpu in gpus:
        kinds[gpu.name] = kinds.get(gpu.name, 0) + 1
    return kinds
