"""The logs of a job: append-only chunks in the bucket, read as one text."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.errors import UsageError
from orchestrator.jobs import layout
from orchestrator.store.protocol import Store


@dataclass
class LogStream:
    """One stream of one generation, read from where the last read ended."""

    store: Store
    job: str
    generation: int
    stream: str
    _last_key: str = ""

    def new_chunks(self) -> Iterator[bytes]:
        """What was added since the last call."""
        for entry in self.store.list(self._prefix, start_after=self._last_key):
            found = self.store.get(entry.key)
            self._last_key = entry.key
            if found is not None:
                yield found.body

    def tail(self, lines: int) -> bytes:
        """The last lines, read from the end; the next `new_chunks` goes on after them."""
        keys = [entry.key for entry in self.store.list(self._prefix, start_after=self._last_key)]
        bodies: deque[bytes] = deque()
        newlines = 0
        for key in reversed(keys):
            found = self.store.get(key)
            if found is not None:
                bodies.appendleft(found.body)
                newlines += found.body.count(b"\n")
            if newlines > lines:  # one more than asked: then the first of them is whole
                break
        if keys:
            self._last_key = keys[-1]
        return b"".join(b"".join(bodies).splitlines(keepends=True)[-lines:]) if lines > 0 else b""

    @property
    def _prefix(self) -> str:
        return layout.logs_prefix(self.job, self.generation, self.stream)


def generations_with_logs(store: Store, job: str) -> list[int]:
    """The generations that have written anything, oldest first."""
    return [int(name[1:]) for name in store.prefixes(layout.logs_prefix(job)) if name[1:].isdigit()]


def check_stream(store: Store, job: str, generation: int, stream: str) -> None:
    """Refuse a generation or stream that has no log, naming those that have."""
    generations = generations_with_logs(store, job)
    if not generations:
        raise UsageError(f"{job} has no logs yet: watch it start with: elastic follow {job}")
    if generation not in generations:
        raise UsageError(f"{job} has no logs of generation {generation}: there are {', '.join(map(str, generations))}")
    streams = list(store.prefixes(layout.logs_prefix(job, generation)))
    if stream not in streams:
        raise UsageError(f"generation {generation} of {job} has no log '{stream}': there are {', '.join(streams)}")
