"""Nothing of a rehearsal outlives it: every process that it starts carries its mark, and a guard ends whoever has it.

`python -m orchestrator.rehearsal.guard MARK` waits until its standard input is closed, which the system does when
whoever started it is gone, however it went; then it ends all that carries the mark.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.fleets.processes import end_marked_processes

VARIABLE = "ELASTIC_REHEARSAL"
"""Environment variable with the mark: a rehearsal's directory, unique on the machine."""
_BOUND_S = 30.0


@contextmanager
def guarding(mark: str) -> Iterator[dict[str, str]]:
    """While entered and not a moment longer live the processes with the environment that this gives."""
    guard = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.rehearsal.guard", mark],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for who started it, who ends it in order
    )
    try:
        yield {VARIABLE: mark}
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(_BOUND_S)


def main() -> None:
    """Wait, then end them."""
    sys.stdin.buffer.read()
    end_marked_processes(sys.argv[1], grace_s=0, variable=VARIABLE)


if __name__ == "__main__":
    main()
