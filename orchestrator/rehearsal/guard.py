"""Nothing of a rehearsal outlives it: every process that it starts carries its mark, and a guard ends whoever has it.

`python -m orchestrator.rehearsal.guard MARK [containers]` waits until its standard input is closed, which the system
does when whoever started it is gone, however it went; then it ends all that carries the mark, and removes the
containers of its machines. An engine that is away meanwhile is waited for.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import ElasticError
from orchestrator.fleets.engine import WORK_DIR_LABEL, EngineError
from orchestrator.fleets.processes import end_marked_processes
from orchestrator.rehearsal.containers import end_containers

VARIABLE = "ELASTIC_REHEARSAL"
"""Environment variable with the mark: a rehearsal's directory, unique on the machine."""
CONTAINERS = "containers"
GIVE_UP_AFTER_S = 900.0
"""An engine that does not come back for so long."""
_BOUND_S = 30.0
_AGAIN_AFTER_S = 0.5


class ContainersLeft(ElasticError):
    """The rehearsal is over, and containers of its machines are not."""


@contextmanager
def guarding(mark: str, engine: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """While entered and not a moment longer live the processes with the environment that this gives.

    `engine`: what leads to the Docker engine of its machines' containers. Raises ContainersLeft at the end if that does
    not answer.
    """
    guard = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.rehearsal.guard", mark, *([] if engine is None else [CONTAINERS])],
        stdin=subprocess.PIPE,
        env={**os.environ, **(engine or {})},
        start_new_session=True,  # Ctrl-C is for who started it, who ends it in order
    )
    try:
        yield {VARIABLE: mark}
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        if engine is None:
            guard.wait(_BOUND_S)
        else:
            _wait_until_removed(guard)


def _wait_until_removed(guard: "subprocess.Popen[bytes]") -> None:
    """Until the containers are gone. Raises ContainersLeft; the guard waits on for an engine that is away."""
    try:
        is_done = guard.wait(_BOUND_S) == 0
    except subprocess.TimeoutExpired:
        is_done = False
    if not is_done:
        raise ContainersLeft(
            "The rehearsal has ended, and the Docker engine does not answer: start it, and remove what is left there "
            f"of its instances, `docker ps --all --filter label={WORK_DIR_LABEL}`"
        )


def main() -> int:
    """Wait, then end them."""
    mark, with_containers = sys.argv[1], CONTAINERS in sys.argv[2:]
    sys.stdin.buffer.read()
    end_marked_processes(mark, grace_s=0, variable=VARIABLE)
    give_up_s = time.monotonic() + GIVE_UP_AFTER_S
    while with_containers and time.monotonic() < give_up_s:
        try:
            if end_containers(os.environ, Path(mark)):
                return 0
        except EngineError as error:
            if not error.may_pass:
                return 1
        time.sleep(_AGAIN_AFTER_S)
    return 1 if with_containers else 0


if __name__ == "__main__":
    sys.exit(main())
