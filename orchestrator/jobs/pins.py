"""Pins: who reads a checkpoint for long says so, and whoever removes old checkpoints leaves that one.

A pin is renewed while its reader lives. Whether it still does is judged as with the lease: a pin whose etag has not
changed for long, by the collector's own clock, is a dead reader's.
"""

from collections.abc import Callable

from pydantic import ValidationError

from orchestrator.jobs import layout
from orchestrator.store import document
from orchestrator.store.document import Document, Nonce, Stored
from orchestrator.store.protocol import Store

RENEW_EVERY_S = 60.0
DEAD_AFTER_S = 600.0


class Pin(Document):
    """One reader's claim."""

    checkpoint: str
    """Its prefix."""
    by: str


def pin(store: Store, job: str, checkpoint: str, *, by: str, nonce: Nonce) -> Stored[Pin]:
    """Claim a checkpoint for reading. Look afterwards whether it is still there: it may have been removed just before.

    The pin's name is its first nonce.
    """
    name = nonce()
    return document.create(store, layout.pin_key(job, name), Pin(checkpoint=checkpoint, by=by), lambda: name)


def renew(store: Store, job: str, name: str, stored: Stored[Pin], nonce: Nonce) -> Stored[Pin]:
    """Show that the reader lives."""
    return document.swap(store, layout.pin_key(job, name), stored, stored.value, nonce)


def unpin(store: Store, job: str, name: str) -> None:
    """The reader has done."""
    store.delete(layout.pin_key(job, name))


class PinWatch:
    """One collector's view of a job's pins: which checkpoints are being read."""

    def __init__(self, store: Store, job: str, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._job = job
        self._monotonic = monotonic
        self._seen: dict[str, tuple[str, float]] = {}  # key -> etag, and since when it is the same

    def pinned(self) -> frozenset[str]:
        """Prefixes of the checkpoints that living readers read; the pins of dead ones are removed."""
        now, seen, checkpoints = self._monotonic(), dict[str, tuple[str, float]](), set[str]()
        for entry in self._store.list(layout.pins_prefix(self._job)):
            etag, since = self._seen.get(entry.key, ("", now))
            if etag == entry.etag and now - since > DEAD_AFTER_S:
                self._store.delete(entry.key)
                continue
            seen[entry.key] = (entry.etag, since if etag == entry.etag else now)
            found = self._store.get(entry.key)
            if found is not None:
                checkpoints.add(_checkpoint_of(found.body))
        self._seen = seen
        return frozenset(checkpoints)


def _checkpoint_of(body: bytes) -> str:
    try:
        return Pin.model_validate_json(body).checkpoint
    except ValidationError:
        return ""  # not a pin: it holds nothing
