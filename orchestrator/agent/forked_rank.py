"""A rank that is forked from its launcher, in place of a new process that would import everything once more."""

import os
import signal
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from orchestrator.agent.ending import end_at_once

_LAUNCHERS_OWN = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that torch's launcher takes for itself."""
_NAME = Path("/proc/self/comm")
"""What `top` shows: the command line stays the launcher's."""


def become_rank(program: str, *arguments: str) -> None:
    """Be `python -u -m PROGRAM ARGUMENTS`: torch calls this in the fork, with the streams and variables of the rank.

    It returns only after the exit code 0, for which torch waits; any other ends this process at once.
    """
    for number in _LAUNCHERS_OWN:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(OSError):
        _NAME.write_text(program)
    os.setsid()  # as torch does for a command: what is typed at a terminal is the agent's affair
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]
    sys.argv = [program, *arguments]
    code = _run(program)
    if code != 0:
        end_at_once(code)
    # From here on torch waits for the other ranks, and whoever tells this one to end has no more use for it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(program: str) -> int:
    """The exit code of the program, with a traceback where Python would print one."""
    try:
        code: int = import_module(f"{program}.__main__").main()
    except Exception:  # noqa: BLE001 - torch would keep the traceback from the rank's log
        traceback.print_exc()
        return 1
    return code
