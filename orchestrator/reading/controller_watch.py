"""Whether a controller is alive on a store, as far as the bucket tells."""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.store.lease import LeaseRecord, read_lease
from orchestrator.store.owner import owner_alive
from orchestrator.store.protocol import Store

LOOK_EVERY_S = 2.0
GRACE_S = 8.0
"""How long a controller may be missing before it is worth a word: one that was just started needs a moment."""

NOBODY = "no controller is alive: start one with: elastic daemon"


@dataclass
class ControllerWatch:
    """Says when nobody looks after the jobs of a store."""

    store: Store
    monotonic: Callable[[], float]
    lease: LeaseRecord | None = None
    """Who leads, or led last, as it was read last."""
    renewed_at_s: float = 0.0
    """When it was first seen to be as it is."""
    _looked_at_s: float | None = None
    _missing_since_s: float | None = None

    def missing(self) -> bool:
        """Whether no controller has been alive for a while. Looks into the store every few seconds at most."""
        now_s = self.monotonic()
        if self._looked_at_s is None or now_s - self._looked_at_s >= LOOK_EVERY_S:
            self._looked_at_s = now_s
            if self.alive():
                self._missing_since_s = None
            elif self._missing_since_s is None:
                self._missing_since_s = now_s
        return self._missing_since_s is not None and now_s - self._missing_since_s >= GRACE_S

    def alive(self) -> bool:
        """Whether a controller is alive now, by a look into the store."""
        lease, now_s = read_lease(self.store), self.monotonic()
        if lease != self.lease:
            self.lease, self.renewed_at_s = lease, now_s
        if lease is None or lease.released:
            return False
        known = owner_alive(lease.owner)
        # On another machine only its renewals tell, by this machine's clock.
        return known if known is not None else now_s - self.renewed_at_s < 1.2 * lease.ttl_s


def controller_words(lease: LeaseRecord | None) -> str:
    """Who looks after the jobs of a store, as far as one look can tell."""
    if lease is None or lease.released or owner_alive(lease.owner) is False:
        return NOBODY
    who = f"{lease.owner.label}, pid {lease.owner.pid}, epoch {lease.epoch}"
    return f"a controller here: {who}" if owner_alive(lease.owner) else f"a controller on another machine: {who}"
