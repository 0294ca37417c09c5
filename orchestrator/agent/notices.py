"""What an agent has seen and the controller should tell, numbered in the order in which it was said."""

from collections import deque
from collections.abc import Callable
from typing import Literal

from orchestrator.agent.run_directory import printable
from orchestrator.jobs.instances import Notice

KEPT = 20

NoticeKind = Literal["checkpoint_rejected", "checkpoint_failed", "preemption_notice", "note"]


class Notices:
    """Said by any thread; numbered by the one that writes heartbeats."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._said: deque[tuple[NoticeKind, str]] = deque()
        self._numbered: tuple[Notice, ...] = ()

    def say(self, kind: NoticeKind, message: str) -> None:
        """The next heartbeat tells it, and the log at once."""
        message = printable(message)  # an error may name a file whose name is no text
        self._said.append((kind, message))
        self._log(message)

    def numbered(self) -> tuple[Notice, ...]:
        """The last of them, oldest first."""
        while self._said:
            kind, message = self._said.popleft()
            number = self._numbered[-1].number + 1 if self._numbered else 1
            self._numbered = (*self._numbered, Notice(number=number, kind=kind, message=message))[-KEPT:]
        return self._numbered
