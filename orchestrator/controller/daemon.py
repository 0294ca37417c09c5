"""`elastic daemon`: a controller's duty in real time, until a signal or until it has been idle for long."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from orchestrator.controller.duty import Duty
from orchestrator.controller.spread import SideBySide, one_by_one
from orchestrator.fleets.ec2.open import Ec2FleetOfStore
from orchestrator.fleets.local import open_local_fleet
from orchestrator.fleets.pool.fleet import PoolFleet
from orchestrator.fleets.protocol import Fleet
from orchestrator.jobs.pace import pace_of
from orchestrator.signals import EndingSignals
from orchestrator.store.document import random_nonce
from orchestrator.store.lease import Lease
from orchestrator.store.owner import this_process
from orchestrator.store.probe import require_conditional_writes
from orchestrator.store.protocol import Store

SIDE_BY_SIDE = 16
"""Jobs that are looked after at the same time where the store is far."""


def run_daemon(store: Store, *, label: str, idle_exit_s: float | None, log: Callable[[str], None]) -> int:
    """Control the jobs of a store until a signal, or nothing to do for `idle_exit_s`. Agents go on without it."""
    require_conditional_writes(store, random_nonce)
    signals = EndingSignals()
    log(f"daemon {os.getpid()} on {store.url}")
    with ThreadPoolExecutor(SIDE_BY_SIDE, "jobs") as threads:
        duty = Duty(
            store,
            Lease(store, this_process(label)),
            lambda: open_fleets(store, log),
            now=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
            nonce=random_nonce,
            log=log,
            pace=pace_of(store.billed),
            spread=SideBySide(threads) if _is_far(store) else one_by_one,
        )
        while not signals.received:
            pause_s = duty.turn()
            if idle_exit_s is not None and duty.idle_s > idle_exit_s:
                log(f"nothing to do for {idle_exit_s:g} s")
                if duty.retire():
                    break
                continue
            signals.pause(pause_s)
    duty.resign()
    log("ended")
    return 0


def open_fleets(store: Store, log: Callable[[str], None]) -> dict[str, Fleet]:
    """By the names that job.yaml has for them. None is asked anything before a job wants it."""
    return {
        "local": open_local_fleet(store, os.environ, random_nonce),
        "ec2": Ec2FleetOfStore(store, random_nonce, now=lambda: datetime.now(UTC), monotonic=time.monotonic, log=log),
        "pool": PoolFleet(store, random_nonce, now=lambda: datetime.now(UTC), monotonic=time.monotonic),
    }


def _is_far(store: Store) -> bool:
    """Whether each request takes its time, so that it pays to make several at once."""
    return store.url.startswith("s3:")
