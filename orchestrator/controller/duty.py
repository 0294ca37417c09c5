"""One process's part as a controller: hold the lease, and look after the jobs while it is held.

No loop, no clock and no sleep of its own: `turn` does what is due and says after how long it wants to be called again.
The daemon calls it in real time, the simulator in virtual time.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from orchestrator.controller.controller import Controller
from orchestrator.controller.decide import Deposed
from orchestrator.controller.spread import Spread, one_by_one
from orchestrator.fleets.protocol import Fleet
from orchestrator.jobs.pace import Pace
from orchestrator.store.document import Nonce
from orchestrator.store.lease import Lease
from orchestrator.store.protocol import Store, StoreError

STANDBY_TICK_S = 1.0
STORE_AWAY_TICK_S = 2.0


class Duty:
    """One contender for the leadership of one store."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        fleets: Callable[[], Mapping[str, Fleet]],
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        nonce: Nonce,
        log: Callable[[str], None],
        pace: Pace,
        spread: Spread = one_by_one,
    ) -> None:
        """`fleets` is called at the beginning of each leadership."""
        self._store = store
        self._lease = lease
        self._fleets = fleets
        self._now = now
        self._monotonic = monotonic
        self._nonce = nonce
        self._log = log
        self._pace = pace
        self._spread = spread
        self._controller: Controller | None = None
        self._writes: dict[str, dict[str, float]] = {}
        self._leading: int | None = None  # the epoch; 0: standing by; None: not known yet
        self._away = ""
        self._busy_at_s = monotonic()

    @property
    def idle_s(self) -> float:
        """How long there has been nothing to do; not to see whether there is something is not to be idle."""
        return max(0.0, self._monotonic() - self._busy_at_s)

    def turn(self) -> float:
        """Do what is due; after so many seconds there may be more to do."""
        try:
            pause_s = self._turn()
        except Deposed as deposed:
            self._log(f"deposed: {deposed}")
            self._lease.step_down(deposed.epoch)
            self._leading, self._controller = None, None
            return STANDBY_TICK_S
        except StoreError as error:
            if str(error) != self._away:
                self._log(f"the store is away, trying again: {error}")
            self._away, self._busy_at_s = str(error), self._monotonic()
            return STORE_AWAY_TICK_S
        self._away = ""
        return pause_s

    def retire(self) -> bool:
        """Resign; False where somebody rang since the last turn, so that there is more to do.

        Who leaves something for a controller rings and then looks whether one leads. Whoever still saw this one rang
        before it resigned.
        """
        controller = self._controller
        self.resign()
        try:
            return controller is None or not controller.hears_bell()
        except StoreError:
            return False  # the next turn tells

    def resign(self) -> None:
        """Give the lease back, so that the next controller need not wait for it to run out."""
        self._controller, self._leading = None, None
        try:
            self._lease.release()
        except StoreError as error:
            self._log(f"the lease could not be given back and will run out: {error}")

    def _turn(self) -> float:
        epoch = self._lease.epoch if self._lease.try_acquire() else 0
        if epoch != self._leading:
            self._log(f"leading, epoch {epoch}" if epoch else "standing by: another daemon holds the lease")
            self._leading, self._controller = epoch, None
        if not epoch:
            return STANDBY_TICK_S
        if self._controller is None:  # also when an earlier turn could not make it, for the store was away
            # Every leadership starts with a fresh look: also the store may be another one than before.
            self._controller = self._new_controller(epoch)
        if not self._controller.tick(epoch):
            return self._pace.idle_tick_s
        self._busy_at_s = self._monotonic()
        return self._pace.quiet_tick_s if self._controller.is_quiet else self._pace.tick_s

    def _new_controller(self, epoch: int) -> Controller:
        """The controller of this leadership: it has no part in a later one of this process."""
        return Controller(
            self._store,
            self._fleets(),
            now=self._now,
            monotonic=self._monotonic,
            nonce=self._nonce,
            still_leading=lambda: self._lease.held and self._lease.epoch == epoch,
            keep_leading=lambda: self._lease.keep() and self._lease.epoch == epoch,
            log=self._log,
            pace=self._pace,
            spread=self._spread,
            writes=self._writes,
        )
