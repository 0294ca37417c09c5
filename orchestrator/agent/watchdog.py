"""Ends an agent whose own turns cannot: one that hangs in the middle of a turn must not cost money for ever."""

import os
import threading
import time
from collections.abc import Callable

from orchestrator.fleets.processes import end_marked_processes

LOOK_EVERY_S = 1.0
HUNG = 70
"""Exit code of an agent that was ended so."""


def watch(overdue: Callable[[], str | None], marker: str | None, log: Callable[[str], None]) -> None:
    """From now on, ask every second; once there is a reason, end all that carries the marker, and this process."""

    def look() -> None:
        while (why := overdue()) is None:
            time.sleep(LOOK_EVERY_S)
        try:
            threading.Timer(LOOK_EVERY_S, os._exit, [HUNG]).start()  # whatever hangs below
            log(f"ending at once: {why}")
            if marker is not None:
                end_marked_processes(marker, grace_s=0)
        finally:  # whatever fails
            os._exit(HUNG)

    threading.Thread(target=look, name="watchdog", daemon=True).start()
