"""Joining the pool: take a name that nobody else has, then speak for the machine until a signal."""

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from orchestrator.errors import UsageError
from orchestrator.fleets.local import LocalFleet, Machine
from orchestrator.fleets.pool.host import Equipment, NameLost, PoolHost
from orchestrator.fleets.pool.records import SILENT_AFTER_S, SPEAKS_WITHIN_S, Host, Report
from orchestrator.fleets.pool.stillness import Watched
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import store_identity
from orchestrator.jobs.pace import pace_of
from orchestrator.signals import EndingSignals
from orchestrator.store import document
from orchestrator.store.document import Nonce, Stored, random_nonce
from orchestrator.store.owner import Owner, owner_alive, this_host, this_process
from orchestrator.store.probe import require_conditional_writes
from orchestrator.store.protocol import Store, StoreError

LOOK_AGAIN_S = 1.0


def host_directories(identity: str, machine: str) -> Path:
    """Where the instances of a machine of a store's pool have their work directories."""
    return Path(platformdirs.user_state_dir("elastic")) / "pool" / identity / machine


def take_name(
    store: Store,
    machine: str,
    *,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
    log: Callable[[str], None],
    patience_s: float = SILENT_AFTER_S,
    here: str | None = None,
) -> Stored[Report] | None:
    """What stands under a machine's name, once it is known that nobody speaks under it any more; None: nothing.

    A host that is certain to have ended is followed at once; of one elsewhere, it takes a while to be sure. So it does,
    but not as long, of one before this machine was started again: a clone of this machine looks the same. `here` stands
    for this host. Raises UsageError where one lives.
    """
    here = this_host() if here is None else here
    watched = Watched(layout.pool_machine_key(machine), monotonic)
    waits = False
    while (found := watched.look(store)) is not None:
        report = document.parse(store, found, Report)
        host = report.value.host
        alive = owner_alive(Owner(**host.model_dump()), here)
        if alive is False:
            patience_s = 0.0 if host.host == here else min(patience_s, SPEAKS_WITHIN_S)
        if report.value.state == "gone" or watched.still_s >= patience_s:
            return report
        if alive or watched.has_moved:
            raise UsageError(
                f"a host has joined {store.url} as {machine} already ({host.label}, process {host.pid}): end it, or "
                "join under another name with --name"
            )
        if not waits:
            log(f"{machine} was another host, which may be there still: its word is waited for {patience_s:g} s")
            waits = True
        sleep(LOOK_AGAIN_S)
    return None


def require_own_gpus(store: Store, equipment: Equipment) -> None:
    """Raises UsageError where another host on this machine gives one of these GPUs under another name."""
    wanted = {gpu.index for gpu in equipment.gpus}
    for entry in store.list(layout.POOL_MACHINES) if wanted else ():
        try:
            stored = document.load(store, entry.key, Report)
        except StoreError:
            continue  # whoever cannot be read is given nothing
        if stored is None or stored.value.machine == equipment.name or stored.value.state == "gone":
            continue
        other = stored.value
        both = wanted.intersection(gpu.index for gpu in other.gpus)
        if both and owner_alive(Owner(**other.host.model_dump())):
            raise UsageError(
                f"--gpus: {other.machine} gives GPU {min(both)} of this machine already ({other.host.label}, process "
                f"{other.host.pid}): end it, or say with --gpus which are left for {equipment.name}"
            )


def _made(directory: Path) -> Path:
    """A directory that is there; raises UsageError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"this machine's instances cannot have their directories in {directory} ({error.strerror}): set "
            "XDG_STATE_HOME to a directory that can be written"
        ) from error
    return directory


def run_host(
    store: Store, equipment: Equipment, environ: Mapping[str, str], *, label: str, log: Callable[[str], None]
) -> int:
    """Speak for this machine until a signal; then its agents drain and commit first. Raises UsageError, NameLost."""
    nonce: Nonce = random_nonce
    require_conditional_writes(store, nonce)
    require_own_gpus(store, equipment)
    root = _made(host_directories(store_identity(store, nonce), equipment.name))
    # What ends it while it waits for the name ends it by an exception; from then on its agents are let end first.
    before = take_name(store, equipment.name, monotonic=time.monotonic, sleep=time.sleep, log=log)
    machine = Machine(equipment.cores, tuple(gpu.index for gpu in equipment.gpus))
    owner = this_process(label)
    host = PoolHost(
        store=store,
        equipment=equipment,
        local=LocalFleet(store.url, root, machine, environ, address=equipment.address),
        life=nonce(),
        owner=Host(host=owner.host, pid=owner.pid, started=owner.started, label=owner.label),
        nonce=nonce,
        now=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        log=log,
        pace=pace_of(store.billed),
        stored=before,
    )

    signals = EndingSignals(host.leave)
    log(f"{equipment.name} joins {store.url} with {_described(equipment)}, process {os.getpid()}")
    try:
        while (pause_s := host.turn()) is not None:
            signals.pause(pause_s)
    except NameLost:
        for instance in host.alive:
            host.local.drain(instance)
        raise
    log(f"{equipment.name} has left")
    return 0


def _described(equipment: Equipment) -> str:
    if not equipment.gpus:
        return f"{equipment.cores} cores, at {equipment.address}"
    gpus = ", ".join(f"{gpu.index}: {gpu.name}" for gpu in equipment.gpus)
    return f"GPUs {gpus}, at {equipment.address}"
