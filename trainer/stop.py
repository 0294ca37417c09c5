"""How a run is asked to stop, and how it ends when nobody is left to ask."""

import ctypes
import os
import signal
import sys
from types import FrameType

from trainer.errors import TrainerError

PR_SET_PDEATHSIG = 1

ONE_PRESS_S = 0.5
"""A Ctrl-C may come twice: to the whole group of processes, and handed on by what started this one (`uv run`)."""


class StopRequest:
    """Whether the run was asked to stop, by SIGTERM or Ctrl-C; the loop looks at it once a step.

    More of SIGTERM changes nothing; another Ctrl-C ends the process at once, wherever it is.
    """

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> "StopRequest":
        """Take the signals from now on."""
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)
        return self

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGINT and signal.getitimer(signal.ITIMER_REAL)[0] == 0:
            signal.signal(signal.SIGALRM, lambda *_: signal.signal(signal.SIGINT, signal.SIG_DFL))
            signal.setitimer(signal.ITIMER_REAL, ONE_PRESS_S)


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends, so that no rank outlives its launcher; Linux only.

    A parent that is known by its pid may be 1, as in a container; else 1 says that the parent has ended already.
    """
    if not sys.platform.startswith("linux"):
        return
    expected = os.getppid() if parent is None else parent
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise TrainerError(f"the kernel refused to tie this process to its parent: {os.strerror(ctypes.get_errno())}")
    # It ended before the call: nobody will send the signal.
    if os.getppid() != expected or (parent is None and expected == 1):
        os._exit(1)
