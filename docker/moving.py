"""Whether the container's first process moves: the health check of the controller's image.

A daemon turns every few seconds, leader or not, and each turn ends in a wait, which the kernel counts. When the
count is what it was at the last look the daemon stands still, and this exits with 1. It asks no store, so that a store
that is away makes no controller unhealthy, and costs next to nothing.
"""

import re
import sys
from pathlib import Path
from typing import Final

STATUS: Final = Path("/proc/1/status")
SEEN: Final = Path("/tmp/elastic-moving")
"""What the last look has seen."""


def main(status: Path = STATUS, seen: Path = SEEN) -> int:
    """0: it has moved since the last look, or this is the first; 1: it stands still."""
    found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)$", status.read_text(), re.MULTILINE)
    waits = found[1] if found else ""
    before = seen.read_text() if seen.exists() else None
    seen.write_text(waits)
    if waits == before:
        print("the first process stands still: it has not waited for anything since the last look")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
