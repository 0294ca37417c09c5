"""Work beside the training gives way to it."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar

from trainer.speed import Clock

NICENESS = 10
"""Of threads that write: ranks wait for each other several times a step, and files are written in those gaps."""

T = TypeVar("T")


def give_way() -> None:
    """Let this thread have what the training leaves of the processors, where a thread has a priority of its own."""
    if sys.platform.startswith("linux"):
        thread = threading.get_native_id()
        # Whoever started this process may have made it nicer already, and only root can take that back.
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


class Do(Protocol):
    """How a piece of work is done: it is over when this returns."""

    def __call__(self, piece: Callable[[], T], /) -> T: ...


def at_once(piece: Callable[[], T], /) -> T:
    """By the thread that asks for it."""
    return piece()


class SpareTime:
    """Work in the time in which no other thread wants a processor; as long as there is patience for that.

    A thread that is merely nice takes its small share even then, and ranks in lockstep all wait for the one that it is
    taken from. One that takes nothing comes to nothing on a machine that is busy, and only root may raise it again. So
    it hands the rest over, piece by piece, to one that is nice.

    To be made by a thread that has its full share, for what a thread starts has no more than itself.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s = 0.0
        self._nice = ThreadPoolExecutor(1, thread_name_prefix="hurry", initializer=give_way)
        self._nice.submit(int).result()  # so that it is started here

    def begin(self, patience_s: float) -> None:
        """For how long pieces are done by the thread that has them; called by any thread."""
        self._until_s = self._clock() + patience_s

    def hurry(self) -> None:
        """There is no patience any more; the piece that is being done may still take a moment."""
        self._until_s = 0.0

    def take(self) -> None:
        """From now on, this thread has nothing but spare time."""
        give_way()
        if sys.platform.startswith("linux"):
            with suppress(OSError):  # a sandbox may not allow it: then it is nice
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    def __call__(self, piece: Callable[[], T], /) -> T:
        if self._clock() < self._until_s:
            return piece()
        try:
            done = self._nice.submit(piece)
        except RuntimeError:  # the interpreter is on its way out, and waits for this thread alone
            return piece()
        return done.result()
