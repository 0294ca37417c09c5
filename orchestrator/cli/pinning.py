"""A checkpoint kept from being removed while this command reads it."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.jobs import layout
from orchestrator.jobs.pins import RENEW_EVERY_S, Pin, pin, renew, unpin
from orchestrator.store import document
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Conflict, NotAllowed, Store, StoreError


@dataclass(frozen=True)
class Reader:
    """Who reads, and what is told when something is not as it should be."""

    by: str
    nonce: Nonce
    tell: Callable[[str], None]
    renew_every_s: float = RENEW_EVERY_S


class _Claim:
    """One pin of this command's own."""

    def __init__(self, store: Store, job: str, checkpoint: str, reader: Reader) -> None:
        self._store, self._job, self._checkpoint, self._reader = store, job, checkpoint, reader
        self._pin()

    def _pin(self) -> None:
        self._stored = pin(self._store, self._job, self._checkpoint, by=self._reader.by, nonce=self._reader.nonce)
        self._name = self._stored.value.nonce

    def renew(self) -> None:
        """Show that the reader lives; one that was taken for dead, after a long sleep, claims anew."""
        try:
            self._stored = renew(self._store, self._job, self._name, self._stored, self._reader.nonce)
        except Conflict:
            found = document.load(self._store, layout.pin_key(self._job, self._name), Pin)
            if found is None:
                self._pin()
            else:
                self._stored = found  # a renewal of ours whose reply was lost

    def renew_until(self, over: threading.Event) -> None:
        """Renew again and again; a store that is away is asked again the next time."""
        while not over.wait(self._reader.renew_every_s):
            with contextlib.suppress(StoreError):
                self.renew()

    def let_go(self) -> None:
        """The reader has done. Where it cannot be told, whoever collects takes it for dead before long."""
        with contextlib.suppress(StoreError):
            unpin(self._store, self._job, self._name)


@contextlib.contextmanager
def pinned(store: Store, job: str, checkpoint: str, reader: Reader) -> Iterator[None]:
    """Claim a checkpoint, show every minute that its reader lives, and let it go however the reading ends.

    Who may only read the store reads all the same: then a job that runs may remove the checkpoint meanwhile.
    """
    try:
        claim = _Claim(store, job, checkpoint, reader)
    except NotAllowed:
        reader.tell(
            f"{store.url} may not be written to with these credentials: a job that runs may remove the checkpoint "
            "while it is read"
        )
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=claim.renew_until, args=(over,), name="pin", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        claim.let_go()
