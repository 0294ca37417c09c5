"""The end of a process that has nothing left to do."""

import contextlib
import os
import sys
from typing import NoReturn


def end_at_once(code: int) -> NoReturn:
    """Leave by this exit code, whatever hangs and whatever the interpreter would still take apart."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its log may lie on a disk that is full, or be closed
            stream.flush()
    os._exit(code)
