"""The end of what the first worker has printed."""

import re
from collections import deque

from orchestrator.dashboard.job_row import Shown
from orchestrator.jobs import layout
from orchestrator.reading.log_reading import LogStream, generations_with_logs
from orchestrator.store.protocol import Store

LINES = 60
_LINE_CHARACTERS = 500
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Log(Shown):
    """What is shown of it."""

    generation: int | None
    """Whose; None: nobody has printed anything yet."""
    lines: list[str]


class LogTail:
    """Reads on where it has stopped, and goes on with the next generation."""

    def __init__(self, store: Store, job: str) -> None:
        self._store = store
        self._job = job
        self._stream: LogStream | None = None
        self._lines: deque[str] = deque(maxlen=LINES)
        self._rest = ""

    def read(self) -> Log:
        """The last lines. Takes two listings, and reads what is new."""
        latest = max(generations_with_logs(self._store, self._job), default=None)
        if latest is None:
            return Log(generation=None, lines=[])
        if self._stream is None or self._stream.generation != latest:
            self._stream = LogStream(self._store, self._job, latest, layout.rank_stream(0))
            self._lines.clear()
            self._rest = ""
            self._take(self._stream.tail(LINES))
        else:
            for chunk in self._stream.new_chunks():
                self._take(chunk)
        return Log(generation=latest, lines=[*self._lines, *([self._rest] if self._rest else [])][-LINES:])

    def _take(self, chunk: bytes) -> None:
        *whole, self._rest = (self._rest + chunk.decode("utf-8", errors="replace")).split("\n")
        self._lines.extend(map(printable, whole))
        self._rest = printable(self._rest)


def printable(line: str) -> str:
    """A line as a terminal would leave it: no colours, of a progress bar the last state, and not endless."""
    last = _COLOURS.sub("", line).rstrip("\r").rpartition("\r")[2]
    clean = _UNPRINTABLE.sub("", last)
    return clean if len(clean) <= _LINE_CHARACTERS else f"{clean[: _LINE_CHARACTERS - 1]}…"
