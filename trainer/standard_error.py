"""What is told to whoever looks at the terminal or the log."""

import sys
from contextlib import suppress


def tell(text: str) -> None:
    """Print a line to standard error; it may be a file on a disk that is full, and that costs the line alone."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
