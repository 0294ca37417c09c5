"""Lines of who must go on without them: an agent, a controller, a machine of the pool, a command that remarks."""

from contextlib import suppress
from typing import TextIO


def write_line(text: str, stream: TextIO) -> None:
    """Write a line at once; the disk may be full, or whoever read may be gone, and that costs the line alone."""
    with suppress(OSError, ValueError):  # the latter: it is closed
        print(text, file=stream, flush=True)
