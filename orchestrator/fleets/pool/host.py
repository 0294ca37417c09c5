"""The machine's side of the pool: a local fleet whose orders come through the bucket.

`turn` does what is due, and says when the next one is; nothing in it waits for long. What is ordered is told first and
started then: whoever takes the name later, on whatever machine, sees what was started under it and starts it no more.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from orchestrator.errors import ElasticError
from orchestrator.fleets.local import LocalFleet
from orchestrator.fleets.pool.records import Gpu, Host, Hosted, Order, Orders, Report
from orchestrator.fleets.pool.stillness import Watched
from orchestrator.fleets.protocol import InstanceState, LaunchError
from orchestrator.jobs import layout
from orchestrator.jobs.instances import LEAVE_WITHIN_S
from orchestrator.jobs.pace import Pace
from orchestrator.store import document
from orchestrator.store.document import Nonce, Stored
from orchestrator.store.protocol import Conflict, Store, StoreError

DRAIN_WITHIN_S = LEAVE_WITHIN_S + 30.0
"""Agents that have been asked to end give up by themselves before this."""
LAST_WORD_WITHIN_S = 10.0
STORE_AWAY_S = 1.0
END_AGAIN_S = 15.0
"""What cannot be ended at once, such as a process that waits for a disk that is away, is ended again after this."""
LOOK_AT_AGENTS_S = 1.0
SWEEP_EVERY_S = 3600.0


class NameLost(ElasticError):
    """Another host has taken this one's name."""


@dataclass(frozen=True)
class Equipment:
    """What a machine gives to the pool, and what it is called."""

    name: str
    cores: int
    gpus: tuple[Gpu, ...]
    labels: Mapping[str, str]
    address: str


@dataclass
class PoolHost:
    """Speaks for one machine, under a name that it has taken (see `joining`)."""

    store: Store
    equipment: Equipment
    local: LocalFleet
    life: str
    owner: Host
    nonce: Nonce
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    log: Callable[[str], None]
    pace: Pace
    stored: Stored[Report] | None
    """The report that stands in the bucket: of whoever had the name before, if anybody."""
    _orders: Watched = field(init=False)
    _seen: Orders | None = None
    """The orders as they were read last; None: not yet."""
    _hosted: dict[str, Hosted] = field(default_factory=dict)
    _state: Literal["ready", "leaving", "gone"] = "ready"
    _count: int = 0
    _told: object = None
    _due: dict[str, float] = field(default_factory=dict)
    _leave_by_s: float = 0.0
    _complaint: str = ""
    _joined_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._orders = Watched(layout.POOL_ORDERS, self.monotonic)
        self._joined_at = self.now()
        before = self.stored.value.instances if self.stored is not None else {}
        for instance, hosted in before.items():
            self._hosted[instance] = self._adopted(instance, hosted)

    def _adopted(self, instance: str, hosted: Hosted) -> Hosted:
        """What an earlier host of this name has started: it is here, or it was on another machine, or never began."""
        if self.local.describe([instance]) or hosted.state is InstanceState.GONE:
            return hosted
        why = f"whoever was {self.equipment.name} before has not started it, or not on this machine"
        return hosted.model_copy(update={"state": InstanceState.GONE, "why": why})

    def leave(self) -> None:
        """Take no more orders, let the agents drain and commit, end. Safe to call from a signal handler."""
        if self._state == "ready":
            self._state, self._leave_by_s = "leaving", self.monotonic() + DRAIN_WITHIN_S

    @property
    def alive(self) -> list[str]:
        """The instances that run here."""
        return [name for name, hosted in self._hosted.items() if hosted.state is not InstanceState.GONE]

    def turn(self) -> float | None:
        """Do what is due; returns after how many seconds to be called again, or None: it has ended.

        Raises NameLost.
        """
        self._look()
        if self._state == "leaving":
            self._drain()
            if not self.alive or self.monotonic() >= self._leave_by_s + LAST_WORD_WITHIN_S:
                self._state, self._leave_by_s = "gone", self.monotonic() + LAST_WORD_WITHIN_S
        try:
            self._carry_out(self._read_orders())
            self._tell()
        except StoreError as error:
            self._complain(f"the store is away, trying again: {error}")
            return None if self._state == "gone" and self.monotonic() >= self._leave_by_s else STORE_AWAY_S
        self._complaint = ""
        if self._state == "gone":
            return None
        return max(0.05, min(self._due.values()) - self.monotonic())

    # --- orders ------------------------------------------------------------------------------------------------------

    def _read_orders(self) -> Orders:
        """As they are, or were a moment ago. Raises StoreError: what was not read stays due."""
        if self._is_due("orders", self.pace.assignment_s):
            try:
                found = self._orders.look(self.store)
                if found is not None:
                    self._seen = document.parse(self.store, found, Orders).value
            except StoreError:
                del self._due["orders"]
                raise
        if self._seen is None:  # nobody has written any
            self._seen = Orders()
        return self._seen

    def _look(self) -> None:
        """How those that were started are."""
        if not self._is_due("agents", LOOK_AT_AGENTS_S):
            return
        if self._is_due("sweep", SWEEP_EVERY_S):
            self.local.sweep()
        sightings = self.local.describe(self.alive)
        for instance in self.alive:
            hosted, seen = self._hosted[instance], sightings.get(instance)
            if seen is not None and (seen.state is not InstanceState.GONE or self._end(instance)):
                update = {"state": seen.state, "lived_s": seen.lived_s or hosted.lived_s}
                self._hosted[instance] = hosted.model_copy(update=update)
                if seen.state is InstanceState.GONE:
                    self.log(f"{instance} has ended")

    def _carry_out(self, orders: Orders) -> None:
        """Start what is ordered, end what is not."""
        mine = orders.of(self.equipment.name)
        for instance in [name for name in self._hosted if name not in mine]:
            # Also one that has ended: its containers may not have been reached when it did.
            if self._end(instance, "it is not wanted any more"):
                del self._hosted[instance]
        new = {name: order for name, order in mine.items() if name not in self._hosted}
        for instance, order in new.items():
            why = self._why_not(order)
            self._hosted[instance] = Hosted(
                state=InstanceState.GONE if why else InstanceState.STARTING,
                job=order.request.job,
                given=order.given,
                why=why,
            )
        if new:
            self._tell_of(new)
            for instance, order in new.items():
                self._start(instance, order)

    def _end(self, instance: str, why: str = "") -> bool:
        """End it and remove what is left of it, such as the containers of an agent that was killed with its guard.

        False: processes of it live on, and it keeps what it was given.
        """
        if self._is_due(f"end {instance}", END_AGAIN_S):
            if why and self._hosted[instance].state is not InstanceState.GONE:
                self.log(f"{instance} is ended: {why}")
            self.local.terminate(instance)
            if self.local.is_clear(instance):
                del self._due[f"end {instance}"]
                return True
            self.log(f"{instance} is not ended yet: processes of it cannot be killed, or not now")
        return False

    def _tell_of(self, new: Iterable[str]) -> None:
        """Before any of them is started: if that cannot be told, none is."""
        try:
            self._write()
        except StoreError:
            for instance in new:
                del self._hosted[instance]
            raise

    def _why_not(self, order: Order) -> str:
        """Why an order cannot be carried out; empty if it can."""
        name = self.equipment.name
        if self._state != "ready":
            return f"{name} leaves the pool"
        missing = set(order.given.gpus) - {gpu.index for gpu in self.equipment.gpus}
        if missing:
            return f"{name} has no GPU {', '.join(map(str, sorted(missing)))} any more"
        return ""

    def _start(self, instance: str, order: Order) -> None:
        if self._hosted[instance].state is InstanceState.GONE:
            return
        self.log(f"{instance} is started for {order.request.job}")
        try:
            self.local.launch_on(replace(order.request, instance=instance), order.given.gpus)
        except LaunchError as error:
            self.log(f"{instance} cannot be started: {error}")
            update = {"state": InstanceState.GONE, "why": str(error)}
            self._hosted[instance] = self._hosted[instance].model_copy(update=update)

    def _drain(self) -> None:
        is_over = self.monotonic() >= self._leave_by_s
        if is_over or self._is_due("drain", DRAIN_WITHIN_S):
            for instance in self.alive:
                if is_over:
                    self._end(instance, "it has not committed in time")
                else:
                    self.log(f"{instance} is asked to commit and to end")
                    self.local.drain(instance)

    # --- what is told ------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """A report from time to time, and at once when something has changed that a controller waits for."""
        news = (self._state, {name: (hosted.state, hosted.why) for name, hosted in self._hosted.items()})
        if self._is_due("report", self.pace.heartbeat_s) or news != self._told:
            self._write()
            self._told = news

    def _write(self) -> None:
        """Raises StoreError, and NameLost when another host has the name."""
        self._count += 1
        equipment = self.equipment
        report = Report(
            machine=equipment.name,
            life=self.life,
            host=self.owner,
            state=self._state,
            count=self._count,
            at=self.now(),
            joined_at=self._joined_at,
            address=equipment.address,
            cores=equipment.cores,
            gpus=equipment.gpus,
            labels=dict(equipment.labels),
            orders_seq=self._seen.seq if self._seen is not None else 0,
            instances=self._hosted,
        )
        key = layout.pool_machine_key(equipment.name)
        try:
            if self.stored is None:
                self.stored = document.create(self.store, key, report, self.nonce)
            else:
                self.stored = document.swap(self.store, key, self.stored, report, self.nonce)
        except (Conflict, StoreError) as error:
            self._doubt(key, error)
            raise

    def _doubt(self, key: str, error: Exception) -> None:
        """Whether the report that stands there is one's own, of which the reply was lost, or another host's."""
        stands = document.load(self.store, key, Report)
        if stands is not None and stands.value.life != self.life:
            who = f"{stands.value.host.label}, process {stands.value.host.pid}"
            raise NameLost(
                f"another host has joined {self.store.url} as {self.equipment.name} ({who}): give each machine a name "
                "of its own with --name"
            ) from error
        self.stored = stands
        if isinstance(error, Conflict):
            raise StoreError(f"{key} was not written, and is written again") from error

    def _complain(self, message: str) -> None:
        if message != self._complaint:
            self._complaint = message
            self.log(message)

    def _is_due(self, what: str, every_s: float) -> bool:
        now_s = self.monotonic()
        if now_s < self._due.get(what, now_s):
            return False
        self._due[what] = now_s + every_s
        return True
