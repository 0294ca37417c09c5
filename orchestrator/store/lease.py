"""Who leads: one record in the store that its holder renews and others watch.

No clock is compared with another machine's. A watcher takes over when it has seen the same etag for 1.2 times the
holder's ttl by its own clock; the holder stops acting at its ttl less a margin, counted by its own clock from *before*
the renewal was sent. So between the two there is time in which nobody leads, and none in which two do, as long as both
clocks run at about the same speed and the holder looks at `held` before it acts. A process can still stop between the
look and the act: the epoch, which grows with each takeover, is what fences it off (a new leader seals what it takes
over).

One wait is needless: when the holder was a process of this host that has died, or of this machine before it was started
again. That is certain knowledge, and the watcher takes over at once.
"""

import time
from collections.abc import Callable

from orchestrator.store import document
from orchestrator.store.document import Document, Nonce, Stored
from orchestrator.store.owner import Owner, owner_alive
from orchestrator.store.protocol import Conflict, Store

LEASE_KEY = "control/lease.json"
DEFAULT_TTL_S = 20.0
"""With patience, and a watcher that looks every two seconds, the next leader acts within 30 s on another machine."""
_PATIENCE = 1.2  # of the holder's ttl, without a sign of life
_RENEW_AFTER = 1 / 2  # of the ttl: on a bucket that bills each request, this write is most of what an idle leader costs
_STOP_AFTER = 0.8  # of the ttl: the rest is for what was begun just before


class LeaseRecord(Document):
    """What `control/lease.json` says. `holder` tells two leases of the same process apart."""

    epoch: int
    owner: Owner
    holder: str
    ttl_s: float
    released: bool = False


def read_lease(store: Store) -> LeaseRecord | None:
    """Who leads, or led last; None when nobody ever did. Whether it still does, ask `owner_alive`."""
    found = document.load(store, LEASE_KEY, LeaseRecord)
    return None if found is None else found.value


def uptime_clock() -> float:
    """Seconds since boot, those asleep included: after a suspend a lease must not look as fresh as before."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


def is_certainly_dead(owner: Owner) -> bool:
    """Whether it is known, and not only supposed, that a process is gone."""
    return owner_alive(owner) is False


class Lease:
    """One contender's side. `held` and `epoch` may be read from any thread; one thread calls the rest."""

    def __init__(
        self,
        store: Store,
        owner: Owner,
        ttl_s: float = DEFAULT_TTL_S,
        clock: Callable[[], float] = uptime_clock,
        nonce: Nonce = document.random_nonce,
        owner_is_dead: Callable[[Owner], bool] = is_certainly_dead,
    ) -> None:
        self._store = store
        self._owner = owner
        self._ttl_s = ttl_s
        self._clock = clock
        self._nonce = nonce
        self._owner_is_dead = owner_is_dead
        self._holder = nonce()
        self._mine: Stored[LeaseRecord] | None = None
        self._renewed_at_s = 0.0
        self._epoch = 0
        self._watched: tuple[str, float] | None = None  # another's etag, and since when it is the same
        self._epochs_seen = 0

    @property
    def held(self) -> bool:
        """Whether this contender may act now."""
        return self._mine is not None and self._clock() - self._renewed_at_s < _STOP_AFTER * self._ttl_s

    @property
    def epoch(self) -> int:
        """The number of this leadership, the same through all its renewals; 0 before the first."""
        return self._epoch

    def try_acquire(self) -> bool:
        """Take the lease where it is free, renew it where it is due, else watch. To be called again and again.

        Sends nothing while the lease is held and fresh. Raises `StoreError` when the store cannot be asked.
        """
        if self._mine is not None:
            fresh = self._clock() - self._renewed_at_s < _RENEW_AFTER * self._ttl_s
            return (fresh and self.held) or self.renew()
        asked_at_s = self._clock()
        found = document.load(self._store, LEASE_KEY, LeaseRecord)
        if found is None:
            return self._write(None, self._epochs_seen + 1)
        if self._is_mine(found):  # written by an earlier call whose reply was lost
            return self._write(found, found.value.epoch)
        if found.value.released or self._owner_is_dead(found.value.owner) or self._is_stale(found, asked_at_s):
            return self._write(found, max(found.value.epoch, self._epochs_seen) + 1)
        return False

    def keep(self) -> bool:
        """Whether this contender may act now, after renewing where that is due: for the middle of long work.

        Takes nothing that is not held. Raises `StoreError` when the store cannot be asked.
        """
        if self._mine is not None and self._clock() - self._renewed_at_s >= _RENEW_AFTER * self._ttl_s:
            self.renew()
        return self.held

    def renew(self) -> bool:
        """Renew now. False when somebody else has taken over, or this contender never held it."""
        if self._mine is None:
            return False
        if self._write(self._mine, self._epoch):
            return True
        # An earlier renewal whose reply was lost for good leaves a record of our own with an etag that we do not know.
        found = document.load(self._store, LEASE_KEY, LeaseRecord)
        return found is not None and self._is_mine(found) and self._write(found, self._epoch)

    def release(self) -> None:
        """Give it up, so that the next contender need not wait. Does nothing where it is not held."""
        mine, self._mine = self._mine, None
        if mine is None:
            return
        try:
            released = mine.value.model_copy(update={"released": True})
            document.swap(self._store, LEASE_KEY, mine, released, self._nonce)
        except Conflict:
            return  # somebody else has it already

    def step_down(self, epoch_seen: int) -> None:
        """Give way to a leadership of this epoch. A later one of ours is above it, even if the lease was lost since."""
        self._epochs_seen = max(self._epochs_seen, epoch_seen)
        self.release()

    def _is_mine(self, found: Stored[LeaseRecord]) -> bool:
        return found.value.holder == self._holder and not found.value.released

    def _is_stale(self, found: Stored[LeaseRecord], asked_at_s: float) -> bool:
        """Whether the holder gave no sign of life for too long: from after the first look to before this one."""
        if self._watched is None or self._watched[0] != found.etag:
            self._watched = (found.etag, self._clock())
            return False
        return asked_at_s - self._watched[1] >= _PATIENCE * found.value.ttl_s

    def _write(self, old: Stored[LeaseRecord] | None, epoch: int) -> bool:
        """Create or replace the record as one's own; False when another was first."""
        sent_at_s = self._clock()
        record = LeaseRecord(epoch=epoch, owner=self._owner, holder=self._holder, ttl_s=self._ttl_s)
        try:
            if old is None:
                written = document.create(self._store, LEASE_KEY, record, self._nonce)
            else:
                written = document.swap(self._store, LEASE_KEY, old, record, self._nonce)
        except Conflict:
            self._mine = None
            return False
        self._renewed_at_s = sent_at_s  # first, for a reader of `held` in another thread
        self._epoch = epoch
        self._mine = written
        return True
