"""Slow work beside the supervisor's turns: cut into pieces, carried out by threads in real life.

A piece may take as long as it takes; between two pieces whoever carries them out may do something else, as the
simulator does, which carries out all work of all instances in one thread on a virtual clock.
"""

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

NICENESS = 10
"""Of nice work: it takes what the trainer leaves of the processors."""

Work = Callable[[], float | None]
"""Does one piece of work; returns after how many seconds it is to be called again, or None when all is done."""


class Task(Protocol):
    """Work that was started."""

    @property
    def done(self) -> bool:
        """Whether nothing more of it will be done."""
        ...

    @property
    def crashed(self) -> bool:
        """Whether it has ended by a fault of its own, and not because all was done."""
        ...

    def wake(self) -> None:
        """Have the next piece done now, and not only when it is time."""
        ...


class Background(Protocol):
    """Where slow work is done."""

    def start(self, work: Work, name: str, *, nice: bool = False) -> Task:
        """Begin to call `work`, never from within this call. Raises OSError when there cannot be more of it now."""
        ...


def in_pieces(pieces: Iterator[float]) -> Work:
    """Work from a generator, which yields after how many seconds it is to go on."""
    return lambda: next(pieces, None)


class Threads:
    """A thread for each work. The traceback of one that crashes goes to standard error, which is the agent's log."""

    def start(self, work: Work, name: str, *, nice: bool = False) -> "ThreadTask":
        return ThreadTask(work, name, nice)


class ThreadTask:
    """Work in a thread of its own."""

    def __init__(self, work: Work, name: str, nice: bool) -> None:
        self.done = False
        self.crashed = False
        self._work = work
        self._nice = nice
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # all that Python says when the system has no thread left
            raise BlockingIOError(errno.EAGAIN, f"no thread for {name}") from error

    def wake(self) -> None:
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        crashed = True
        try:
            if self._nice:
                _be_nice()
            while (pause_s := self._work()) is not None:
                self._wake.wait(pause_s)
                self._wake.clear()
            crashed = False
        finally:
            self.crashed = crashed
            self.done = True


def _be_nice() -> None:
    if sys.platform.startswith("linux"):  # where a thread has a priority of its own
        thread = threading.get_native_id()
        # Never less nice than the agent was started: only root may do that.
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
