"""What every store can do: whole objects under keys, with conditional writes.

The semantics are those of S3: an object appears whole or not at all, a read sees the newest finished write, and a
write may be made to depend on what is there. Two things are left out on purpose: copying and conditional multipart
uploads, because several S3 implementations get their conditions wrong.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Literal, Protocol, runtime_checkable

from orchestrator.errors import CredentialsError, ElasticError, UsageError


@dataclass(frozen=True)
class Object:
    """An object as it was read. The etag is opaque; identical bytes may well have identical etags."""

    key: str
    body: bytes
    etag: str


@dataclass(frozen=True)
class Entry:
    """An object as a listing names it."""

    key: str
    size: int
    etag: str


class StoreError(ElasticError):
    """The store could not do what was asked: what, where, what to do. A write was not applied, but for `ReplyLost`."""


class ReplyLost(StoreError):
    """A write was sent and no certain answer came: it may have been applied, or may still be. Read back to know."""


class StoreUnreachable(StoreError, UsageError):
    """There is no such store, or it does not answer."""


class BucketMissing(StoreUnreachable):
    """The service answers, and has no such bucket."""


class StoreDenied(StoreError, CredentialsError):
    """The store answered that credentials are missing, expired, or do not allow this."""


class NotAllowed(StoreDenied):
    """The credentials are right, but do not allow this."""


class Unsupported(StoreError):
    """The store answered that it cannot do this kind of request at all."""


class Altered(StoreError):
    """A file to be uploaded is not what it was said to be: something has changed it since it was written."""


class Conflict(Exception):
    """The condition of a write did not hold: somebody else was first. Load again and decide again."""


class Missing(Exception):
    """There is no such object."""


class Unchanged(Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""The answer of `get_if_changed` when the object still has the etag that the caller knows."""

Progress = Callable[[int], None]
"""Called with the bytes done since the last call, possibly from another thread; negative when a part is sent again."""


@runtime_checkable
class Store(Protocol):
    """Object storage. Safe to use from several threads and, but for the one in memory, several processes.

    Keys are relative: parts of letters, digits, `.`, `_` and `-`, with `/` between them. They form a tree: no key may
    be a directory of another (`a` beside `a/b`), which a local directory could not hold. Every method raises
    `StoreError`, and those that write `ReplyLost` where the outcome is not known.
    """

    @property
    def url(self) -> str:
        """What `open_store` makes this store from."""
        ...

    @property
    def billed(self) -> bool:
        """Whether somebody pays for each request."""
        ...

    def get(self, key: str) -> Object | None:
        """The newest object under the key; None when there is none."""
        ...

    def get_if_changed(self, key: str, etag: str | None) -> Object | None | Literal[Unchanged.UNCHANGED]:
        """Like `get`, but `UNCHANGED` (and cheap) when the object still has this etag."""
        ...

    def create(self, key: str, body: bytes) -> str:
        """Write an object that must not exist yet; return its etag. Durable. Raises `Conflict` when it exists."""
        ...

    def replace(self, key: str, body: bytes, etag: str) -> str:
        """Write over the object that has this etag; return the new one. Durable. `Conflict` when it is another."""
        ...

    def put(self, key: str, body: bytes) -> str:
        """Write whatever is there; return the etag. Only for keys with a single writer.

        Atomic like all writes, but a local store may lose it in a power failure: for what is soon written again.
        """
        ...

    def delete(self, key: str, etag: str | None = None) -> None:
        """Remove an object. With an etag: only that one, else `Conflict`. Without: a missing object is no error."""
        ...

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """The objects whose key starts with the prefix and sorts after `start_after`, in byte order.

        But for one thing that stores order each in their way: what lies under a directory `a`, and what goes on from
        the same `a` by a character before `/` (`a-b`, `a.b`). So the objects of one directory are in order, and those
        of directories whose names have one length. `start_after` is for a prefix without directories. Fetched lazily:
        what appears or goes during the iteration may or may not be seen; all else is seen once.
        """
        ...

    def prefixes(self, prefix: str) -> Iterator[str]:
        """The directories directly under a prefix, which is empty or ends in `/`: those of `"jobs/"` are `"a"`, `"b"`.

        In the byte order of their names, but that one may come after those that go on from it (`a-b` before `a`):
        names of one length are in order. Every directory is named that holds something, and with some servers
        (SeaweedFS) one that is empty, for minutes after its last object has gone.
        """
        ...

    def upload(self, path: Path, key: str, progress: Progress | None = None, *, known: str | None = None) -> str:
        """Write a large file under a key that is never used again; return its SHA-256. Durable, not conditional.

        known: its SHA-256, by whoever wrote it. A store that reads the file to send it compares, and raises `Altered`
        with nothing written; one that need not read it takes the word for it.

        The file must never change afterwards: a local store shares it by a hard link and makes it read-only. Where it
        goes in parts, a second try of the same store object goes on with those that are there; what a killed process
        left is for `abort_uploads`. Only whoever sends the file may send it, and not twice at a time.
        """
        ...

    def download(self, key: str, path: Path, progress: Progress | None = None) -> str:
        """Write an object to a file, which appears whole or not at all, and return its SHA-256.

        Where it comes in parts, a second try goes on with those that are there, in a hidden file beside it. Raises
        `Missing` when there is no object.
        """
        ...

    def abort_uploads(self, prefix: str, older_than_s: float) -> int:
        """End uploads under a prefix that were begun so long ago and are not finished; return how many.

        What they have sent so far lies unseen and is paid for. The age is by the store's own clock. A local store
        cannot tell for which keys its temporary files are, nor whether their writers live: it removes all that are of
        that age and so old that no write takes as long.
        """
        ...
