"""Removes an agent's containers when the agent has ended, however it did: they do not die with it by themselves.

A process in a session of its own, which holds the other end of a pipe and is told whether there are any. When the agent
is gone the pipe is closed, by the kernel if by nobody else; then whatever carries the agent's label is removed, and the
guard ends. An engine that is away meanwhile is waited for.

    python -m orchestrator.agent.containers.guard AGENT
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.agent.launcher import worker_environment
from orchestrator.fleets.engine import AGENT_LABEL, EngineError, connect, is_absence, is_refusal, remove_containers
from orchestrator.fleets.processes import MARKER

if TYPE_CHECKING:
    from docker import DockerClient

AGAIN_AFTER_S = 0.5
GIVE_UP_AFTER_S = 900.0
"""An engine that does not come back for so long: who ends the instance, or is started in its place, removes them."""


SOME, NONE = b"1", b"0"
"""What the guard is told: whether there is anything to remove, should the agent end now."""


class Guard:
    """The agent's end of the pipe."""

    def __init__(self, agent: str, environ: Mapping[str, str]) -> None:
        """Without the instance's mark: whoever kills all that carries it shall not kill the guard."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.agent.containers.guard", agent],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={name: value for name, value in worker_environment(environ).items() if name != MARKER},
            start_new_session=True,
        )
        self._runs: set[str] = set()
        self._lock = threading.Lock()  # the next generation's thread begins while the last one's clears

    @property
    def lives(self) -> bool:
        """Whether it is there; somebody may have killed it."""
        return self._process.poll() is None

    def begins(self, run: str) -> None:
        """Before a run has its first container."""
        with self._lock:
            self._runs.add(run)
            self._tell(SOME)

    def is_clear(self, run: str) -> None:
        """When none of its containers is left."""
        with self._lock:
            self._runs.discard(run)
            if not self._runs:
                self._tell(NONE)

    def leave(self) -> None:
        """The agent's end, as the guard sees it."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _tell(self, word: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(word)
            self._process.stdin.flush()


def main() -> int:
    """Wait for the agent's end, then clear up."""
    agent, there_are = sys.argv[1], NONE
    while word := sys.stdin.buffer.read(1):
        there_are = word
    if there_are == NONE:
        return 0
    give_up = time.monotonic() + GIVE_UP_AFTER_S
    while time.monotonic() < give_up:
        try:
            client = connect(os.environ)
            # A container that was being made when the agent ended is there a moment later.
            if remove_containers(client, AGENT_LABEL, agent) == 0 and _stays_clear(client, agent):
                return 0
        except EngineError as error:
            if not error.may_pass:
                return 1
        except Exception as error:
            if not (is_absence(error) or is_refusal(error)):
                raise
        time.sleep(AGAIN_AFTER_S)
    return 1


def _stays_clear(client: "DockerClient", agent: str) -> bool:
    time.sleep(AGAIN_AFTER_S)
    return remove_containers(client, AGENT_LABEL, agent) == 0


if __name__ == "__main__":
    sys.exit(main())
