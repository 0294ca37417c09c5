"""Whether others still write, by the reader's own clock: clocks of two machines are never compared."""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.fleets.pool.records import SILENT_AFTER_S
from orchestrator.store.protocol import UNCHANGED, Object, Store

NEAR_S = 15.0
"""Of the time between two looks no more than this counts: the reader may have been asleep, or the store away."""


@dataclass
class Watched:
    """One object that somebody writes again and again as long as they live."""

    key: str
    monotonic: Callable[[], float]
    found: Object | None = None
    """As it was read last."""
    has_moved: bool = False
    """Whether it was seen to change, and has been looked at without a long pause ever since."""
    _since_s: float = 0.0
    _looked_s: float | None = None

    def look(self, store: Store) -> Object | None:
        """As it is now; read only if it has changed."""
        found = store.get_if_changed(self.key, None if self.found is None else self.found.etag)
        now_s = self.monotonic()
        gap_s = None if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        if gap_s is None:
            self._since_s = now_s
        elif found is not UNCHANGED and (found is not None or self.found is not None):
            self.has_moved = gap_s < SILENT_AFTER_S and found is not None
            self._since_s = now_s
        elif gap_s > NEAR_S:
            self.has_moved = False
            self._since_s += gap_s - NEAR_S
        if found is not UNCHANGED:
            self.found = found
        return self.found

    @property
    def still_s(self) -> float:
        """For how long it had been the same when it was looked at last, as far as it was watched."""
        return 0.0 if self._looked_s is None else self._looked_s - self._since_s
