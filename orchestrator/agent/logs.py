"""Ships what workers print, and their progress lines, into the bucket in numbered chunks.

A chunk is written every two seconds when there is something new, so a SIGKILL loses at most that much of the tail.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.store.protocol import Conflict, Store, StoreError

SHIP_EVERY_S = 2.0
RETRY_AT_END_S = 0.5
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Chunk:
    """What goes up in one piece, and how far each file is read once it is there."""

    data: bytes
    offsets: dict[Path, int]


@dataclass
class Stream:
    """Files that become one series of chunks: for a rank, its standard output and its standard error."""

    files: Callable[[], Sequence[Path]]
    key: Callable[[int], str]
    """From the number of a chunk to its key."""
    number: int = 0
    offsets: dict[Path, int] = field(default_factory=dict)
    pending: Chunk | None = None
    """Sent, but it is not known to have arrived: the same bytes are sent again."""

    def next(self, *, last: bool) -> Chunk:
        """What is to be shipped now: whole lines, at the end also a line without its end."""
        if self.pending is not None:
            return self.pending
        parts, offsets = [], dict(self.offsets)
        for path in self.files():
            start = offsets.get(path, 0)
            try:
                with open(path, "rb") as file:
                    file.seek(start)
                    data = file.read(CHUNK_BYTES)
            except FileNotFoundError:
                continue
            if not (last or len(data) == CHUNK_BYTES):
                data = data[: data.rfind(b"\n") + 1]
            parts.append(data)
            offsets[path] = start + len(data)
        return Chunk(b"".join(parts), offsets)

    def shipped(self, chunk: Chunk) -> None:
        self.number += 1
        self.offsets = chunk.offsets
        self.pending = None


class LogShipper:
    """Ships streams in a thread of its own; a store that is away is tried again with the same bytes."""

    def __init__(self, store: Store, streams: Sequence[Stream]) -> None:
        self._store = store
        self._streams = streams
        self._ending = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log-shipper", daemon=True)
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Ship what is left, and end. A store that stays away costs the tail, not the agent."""
        self._ending.set()
        self._thread.join(timeout=timeout_s)
        self._given_up.set()

    def _work(self) -> None:
        while not self._ending.wait(SHIP_EVERY_S):
            for stream in self._streams:
                self._ship_all(stream, last=False)
        left = list(self._streams)
        while left := [stream for stream in left if not self._ship_all(stream, last=True)]:
            if self._given_up.wait(RETRY_AT_END_S):
                return

    def _ship_all(self, stream: Stream, *, last: bool) -> bool:
        """Chunk by chunk, until nothing is left (True) or the store does not take it now."""
        while (chunk := stream.next(last=last)).data:
            if not self._ship(stream, chunk):
                return False
        return True

    def _ship(self, stream: Stream, chunk: Chunk) -> bool:
        stream.pending = chunk
        key = stream.key(stream.number)
        try:
            self._store.create(key, chunk.data)
        except Conflict:
            return self._resolve(stream, chunk, key)
        except StoreError:
            return False
        stream.shipped(chunk)
        return True

    def _resolve(self, stream: Stream, chunk: Chunk, key: str) -> bool:
        """The key is taken: by these bytes, whose reply was lost, or by an agent that was here before."""
        try:
            present = self._store.get(key)
        except StoreError:
            return False
        if present is not None and present.body == chunk.data:
            stream.shipped(chunk)
        else:
            stream.number += 1
        return True
