"""Where the instances of the account on loopback really run: it looks what was launched and ended, and does so.

As on EC2 an instance is pending for a while, runs its user-data, shuts down when it asks to or is told to, and is
terminated when nothing of it runs any more. Interruptions come from here: announced in the instance's metadata first,
or not, and then the instance is taken back.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.rehearsal.account import Account, LedgerEntry
from orchestrator.rehearsal.imds import Credentials
from orchestrator.rehearsal.machine import Machine
from orchestrator.rehearsal.turning import Health, turning

LOOK_EVERY_S = 0.1
NOTICE_S = 120.0
"""How long before an interruption EC2 announces it."""


def bare(_machine: Path) -> None:
    """An image with nothing on it."""


@dataclass
class MachineRoom:
    """The machines of one account. May be used by several threads at once."""

    account: Account
    directory: Path
    environ: Mapping[str, str]
    """What marks every machine's processes as this rehearsal's."""
    credentials: Callable[[], Credentials]
    """Of the role that instances are launched with."""
    boot_s: float = 0.0
    """From the launch until user-data runs."""
    image: Callable[[Path], None] = bare
    """Puts on a new machine's disk what its image has there."""
    engine: Mapping[str, str] | None = None
    """What leads machines to this one's Docker engine; None: no worker is a container."""
    monotonic: Callable[[], float] = time.monotonic
    machines: dict[str, Machine] = field(default_factory=dict)
    """By instance id, also those that have ended."""
    _boots_at_s: dict[str, float] = field(default_factory=dict)
    _taken_back_at_s: dict[str, float] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def turn(self) -> None:
        """Do what is due."""
        with self._lock:
            for instance_id, at_s in list(self._taken_back_at_s.items()):
                if self.monotonic() >= at_s:
                    self.account.take_back(instance_id)  # the same again, if it does not answer now
                    del self._taken_back_at_s[instance_id]
            for entry in self.account.ledger():
                if entry.id not in self._over:
                    self._look_after(entry)

    def interrupt(self, instance_id: str, notice_s: float = NOTICE_S) -> None:
        """Announce an interruption and take the instance back so much later; with 0 s it is not announced."""
        with self._lock:
            if notice_s > 0:
                self.machines[instance_id].metadata.interrupt(notice_s)
            self._taken_back_at_s[instance_id] = self.monotonic() + notice_s

    def close(self) -> None:
        """End every machine; what the account says of its instance stays as it is."""
        with self._lock:
            for instance_id in self.machines.keys() - self._over:
                self.machines[instance_id].end()
                self._over.add(instance_id)

    def _look_after(self, entry: LedgerEntry) -> None:
        match entry.state:
            case "pending":
                self._boot_when_due(entry)
            case "running" if self.machines[entry.id].asks_to_shut_down:
                self.account.shut_down(entry.id)
            case "shutting-down" | "stopped":
                self._end(entry)

    def _boot_when_due(self, entry: LedgerEntry) -> None:
        if self.monotonic() < self._boots_at_s.setdefault(entry.id, self.monotonic() + self.boot_s):
            return
        if entry.id not in self.machines:  # else it runs, and the account has not answered to that
            machine = Machine.of(entry, self.directory / entry.id, self.environ, self.credentials, self.engine)
            self.image(machine.directory)
            machine.boot()
            self.machines[entry.id] = machine
        self.account.booted(entry.id)

    def _end(self, entry: LedgerEntry) -> None:
        machine = self.machines.get(entry.id)
        if machine is not None and not machine.end():
            return  # it shuts down until its containers are gone too
        self.account.ended(entry.id)
        self._taken_back_at_s.pop(entry.id, None)
        self._over.add(entry.id)


@contextmanager
def running_room(room: MachineRoom, health: Health | None = None) -> Iterator[MachineRoom]:
    """Look after the machines in a thread while entered. Raises RehearsalBroken at the end if that has failed."""
    try:
        with turning("machine room", room.turn, LOOK_EVERY_S, health):
            yield room
    finally:
        room.close()
