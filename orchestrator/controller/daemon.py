"""`elastic daemon`: hold the lease, tick; stand by while another holds it; end when idle if so wished."""

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from orchestrator.controller.controller import Controller
from orchestrator.controller.decide import Deposed
from orchestrator.fleets.local import open_local_fleet
from orchestrator.store.document import random_nonce
from orchestrator.store.lease import Lease
from orchestrator.store.owner import this_process
from orchestrator.store.probe import require_conditional_writes
from orchestrator.store.protocol import Store, StoreError

TICK_S = 0.25
IDLE_TICK_S = 1.0
STANDBY_TICK_S = 1.0
STORE_AWAY_TICK_S = 2.0


def run_daemon(store: Store, *, label: str, idle_exit_s: float | None, log: Callable[[str], None]) -> int:
    """Control the jobs of a store until a signal, or nothing to do for `idle_exit_s`. Agents go on without it."""
    require_conditional_writes(store, random_nonce)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _received, _frame: stop.set())
    lease = Lease(store, this_process(label))
    log(f"daemon {os.getpid()} on {store.url}")
    _loop(store, lease, stop, idle_exit_s, log)
    try:
        lease.release()
    except StoreError as error:
        log(f"the lease could not be given back and will run out: {error}")
    log("ended")
    return 0


def _loop(
    store: Store, lease: Lease, stop: threading.Event, idle_exit_s: float | None, log: Callable[[str], None]
) -> None:
    controller: Controller | None = None
    leading: int | None = None  # the epoch; 0: standing by
    away, busy_at = "", time.monotonic()
    while not stop.is_set():
        try:
            epoch = lease.epoch if lease.try_acquire() else 0
            if epoch != leading:
                log(f"leading, epoch {epoch}" if epoch else "standing by: another daemon holds the lease")
                leading = epoch
                # Every leadership starts with a fresh look: also the store may be another one than before.
                controller = _new_controller(store, lease, log) if epoch else None
            alive = controller.tick(epoch) if controller is not None else 0
            pause, away = (TICK_S if alive else IDLE_TICK_S) if epoch else STANDBY_TICK_S, ""
            busy_at = time.monotonic() if alive else busy_at
        except Deposed as deposed:
            log(f"deposed: {deposed}")
            lease.step_down(deposed.epoch)
            leading, controller, pause = None, None, STANDBY_TICK_S
        except StoreError as error:
            if str(error) != away:
                log(f"the store is away, trying again: {error}")
            pause, away = STORE_AWAY_TICK_S, str(error)
            busy_at = time.monotonic()  # not to see whether there is something to do is not to be idle
        if idle_exit_s is not None and time.monotonic() - busy_at > idle_exit_s:
            log(f"nothing to do for {idle_exit_s:g} s")
            return
        stop.wait(pause)


def _new_controller(store: Store, lease: Lease, log: Callable[[str], None]) -> Controller:
    return Controller(
        store,
        {"local": open_local_fleet(store, os.environ, random_nonce)},
        now=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        nonce=random_nonce,
        still_leading=lambda: lease.held,
        log=log,
    )
