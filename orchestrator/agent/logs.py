"""Ships what workers print, and their progress lines, into the bucket in numbered chunks.

A chunk is written every few seconds (`jobs.pace`) when there is something new, so a SIGKILL loses at most that much
of the tail.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

from orchestrator.agent.background import Background, in_pieces
from orchestrator.agent.equipment import LogFile
from orchestrator.store.protocol import Conflict, Store, StoreError

RETRY_AT_END_S = 0.5
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Chunk:
    """What goes up in one piece, and how far each file is read once it is there."""

    data: bytes
    offsets: dict[LogFile, int]


@dataclass
class Stream:
    """Files that become one series of chunks: for a rank, its standard output and its standard error."""

    files: Callable[[], Sequence[LogFile]]
    key: Callable[[int], str]
    """From the number of a chunk to its key."""
    number: int = 0
    offsets: dict[LogFile, int] = field(default_factory=dict)
    pending: Chunk | None = None
    """Sent, but it is not known to have arrived: the same bytes are sent again."""

    def next(self, *, last: bool) -> Chunk:
        """What is to be shipped now: whole lines, at the end also a line without its end."""
        if self.pending is not None:
            return self.pending
        parts, offsets = [], dict(self.offsets)
        for file in self.files():
            start = offsets.get(file, 0)
            data = file.read(start, CHUNK_BYTES)
            if not (last or len(data) == CHUNK_BYTES):
                data = data[: data.rfind(b"\n") + 1]
            parts.append(data)
            offsets[file] = start + len(data)
        return Chunk(b"".join(parts), offsets)

    def shipped(self, chunk: Chunk) -> None:
        self.number += 1
        self.offsets = chunk.offsets
        self.pending = None


class LogShipper:
    """Ships streams in the background; a store that is away is tried again with the same bytes."""

    def __init__(self, store: Store, streams: Sequence[Stream], background: Background, ship_every_s: float) -> None:
        self._store = store
        self._streams = streams
        self._ship_every_s = ship_every_s
        self._ending = False
        self._given_up = False
        self._task = background.start(in_pieces(self._pieces()), "log-shipper")

    @property
    def done(self) -> bool:
        """Whether all is shipped, or given up."""
        return self._task.done

    @property
    def crashed(self) -> bool:
        """Whether nothing more is shipped by a fault of its own."""
        return self._task.crashed

    def finish(self) -> None:
        """Nothing more will be printed: ship what is left, then be done."""
        self._ending = True
        self._task.wake()

    def give_up(self) -> None:
        """A store that stays away costs the tail, not the agent."""
        self._given_up = True
        self._task.wake()

    def _pieces(self) -> Iterator[float]:
        yield self._ship_every_s
        while not self._ending:
            for stream in self._streams:
                yield from self._ship_all(stream, last=False)
            if not self._ending:
                yield self._ship_every_s
        left = list(self._streams)
        while left and not self._given_up:
            tried, left = left, []
            for stream in tried:
                if not (yield from self._ship_all(stream, last=True)):
                    left.append(stream)
            if left:
                yield RETRY_AT_END_S

    def _ship_all(self, stream: Stream, *, last: bool) -> Generator[float, None, bool]:
        """Chunk by chunk, until nothing is left (True) or it cannot be read or stored now."""
        while not self._given_up:
            try:
                chunk = stream.next(last=last)
            except OSError:  # too many open files, say: what is there is still there later
                return False
            if not chunk.data:
                return True
            if not self._ship(stream, chunk):
                return False
            yield 0.0
        return True

    def _ship(self, stream: Stream, chunk: Chunk) -> bool:
        stream.pending = chunk
        key = stream.key(stream.number)
        try:
            self._store.create(key, chunk.data)
        except Conflict:
            return self._resolve(stream, chunk, key)
        except (StoreError, OSError):
            return False
        stream.shipped(chunk)
        return True

    def _resolve(self, stream: Stream, chunk: Chunk, key: str) -> bool:
        """The key is taken: by these bytes, whose reply was lost, or by an agent that was here before."""
        try:
            present = self._store.get(key)
        except (StoreError, OSError):
            return False
        if present is not None and present.body == chunk.data:
            stream.shipped(chunk)
        else:
            stream.number += 1
        return True
