"""Does a store keep its conditions? Several servers that speak S3's protocol accept conditions and ignore them.

On such a store two controllers would both win, and checkpoints would be lost without an error. So it is tried, with a
few small requests, before anything relies on it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from orchestrator.errors import UsageError
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Conflict, Store, Unsupported


@dataclass(frozen=True)
class Check:
    """One promise of the protocol, tried."""

    promise: str
    kept: bool
    seen: str


@dataclass(frozen=True)
class ProbeReport:
    """What was tried on a store and what was seen."""

    url: str
    checks: tuple[Check, ...]

    @property
    def kept(self) -> bool:
        """Whether the store can be relied on."""
        return all(check.kept for check in self.checks)


def probe(store: Store, nonce: Nonce) -> ProbeReport:
    """Try each condition on keys of its own under `control/probe/`, and remove them. Raises `StoreError` as usual."""
    key, absent = (f"control/probe/{nonce()}" for _ in range(2))
    checks: tuple[Check, ...]
    try:
        first = store.create(key, b"first")
        second = store.replace(key, b"second", first)
        checks = (
            _refused("creating a key that exists is refused", lambda: store.create(key, b"third")),
            _refused("replacing with a stale etag is refused", lambda: store.replace(key, b"third", first)),
            _refused("replacing a missing key is refused", lambda: store.replace(absent, b"third", first)),
            _refused("deleting with a stale etag is refused", lambda: store.delete(key, first)),
            _intact(store, key, second),
        )
    except Unsupported as error:
        checks = (Check("a key can be created and then replaced by its etag", False, str(error)),)
    except Conflict as error:
        checks = (Check("a key can be created and then replaced by its etag", False, f"refused: {error}"),)
    finally:
        for leftover in (key, absent):
            with suppress(Unsupported):
                store.delete(leftover)
    return ProbeReport(store.url, checks)


def require_conditional_writes(store: Store, nonce: Nonce) -> None:
    """Raise `UsageError`, naming the store and what it does wrong, unless it keeps its conditions."""
    report = probe(store, nonce)
    broken = [check for check in report.checks if not check.kept]
    if broken:
        findings = "; ".join(f"{check.promise}: {check.seen}" for check in broken)
        raise UsageError(
            f"The store {report.url} does not keep conditional writes, and without them work would be lost. "
            f"{findings}. Use AWS S3, a server that keeps them, or a local directory."
        )


def _refused(promise: str, write: Callable[[], object]) -> Check:
    try:
        write()
    except Conflict:
        return Check(promise, True, "refused, as it must be")
    except Unsupported as error:
        return Check(promise, False, str(error))
    return Check(promise, False, "accepted; the condition was ignored")


def _intact(store: Store, key: str, etag: str) -> Check:
    promise = "what was refused changed nothing"
    found = store.get(key)
    if found is not None and found.body == b"second" and found.etag == etag:
        return Check(promise, True, "unchanged")
    return Check(promise, False, "the object is gone" if found is None else f"it holds {found.body[:20]!r}")
