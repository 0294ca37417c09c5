"""Work beside the training gives way to it."""

import os
import sys
import threading

NICENESS = 10
"""Of threads that write: ranks wait for each other several times a step, and files are written in those gaps."""


def give_way() -> None:
    """Let this thread have what the training leaves of the processors, where a thread has a priority of its own."""
    if sys.platform.startswith("linux"):
        thread = threading.get_native_id()
        # Whoever started this process may have made it nicer already, and only root can take that back.
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
