"""Signals that ask a process to end, for loops that pause: no lock is taken where one may be held already.

A handler runs in the main thread between any two of its instructions. A `threading.Event` that is set there while the
main thread waits for it, and holds its lock just then, waits for ever.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT)


class EndingSignals:
    """From when it is made, SIGTERM and Ctrl-C end pauses instead of the process. To be made in the main thread."""

    def __init__(self, on_each: Callable[[], None] = lambda: None) -> None:
        self._on_each = on_each
        self._wakes, self._wake = os.pipe()
        os.set_blocking(self._wakes, False)
        os.set_blocking(self._wake, False)
        self.received = False
        """Whether one has come, ever."""
        for number in ENDING:
            signal.signal(number, self._receive)

    def pause(self, seconds: float) -> None:
        """Wait, or go on at once where one has come since the last pause."""
        select.select([self._wakes], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakes, 1024)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
        self._on_each()
        with contextlib.suppress(BlockingIOError):  # full: it wakes all the same
            os.write(self._wake, b"!")
