"""A job as it was read last: for the overview and for its own page, which ask from different threads."""

import threading
from collections.abc import Callable
from datetime import datetime

from orchestrator.jobs.bucket import JobState
from orchestrator.jobs.events import Event
from orchestrator.reading.following import JobWatch, events_of
from orchestrator.store.protocol import Store

OVER_FRESH_S = 30.0
"""A job that is over can only be removed, and another submitted under its name."""


class WatchedJob:
    """One job, read again when what is known of it is too old."""

    def __init__(
        self, store: Store, name: str, fresh_s: float, now: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        self.name = name
        self._store = store
        self._fresh_s = fresh_s
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._watch = JobWatch(store, name, now, monotonic)
        self._state: JobState | None = None
        self._read_at_s = float("-inf")
        self._last_event: Event | None = None

    @property
    def is_over(self) -> bool:
        """Whether it was over when it was last read."""
        state = self._state
        return state is not None and state.record.phase.over

    def state(self) -> JobState:
        """The job now, or a moment ago. Raises UnknownJob, StoreError."""
        with self._lock:
            fresh_s = OVER_FRESH_S if self.is_over else self._fresh_s
            now_s = self._monotonic()
            if self._state is None or now_s - self._read_at_s >= fresh_s:
                self._state = self._read(self._state)
                self._read_at_s = now_s
            return self._state

    def last_event(self) -> Event | None:
        """What happened last, by the state that was read last."""
        with self._lock:
            record = self._state.record if self._state is not None else None
            if record is None or not record.last_event:
                return None
            if self._last_event is None or self._last_event.number != record.last_event:
                self._last_event = next(events_of(self._store, record, after=record.last_event - 1), None)
            return self._last_event

    def _read(self, before: JobState | None) -> JobState:
        state = self._watch.read()
        if before is None or before.record.created_at == state.record.created_at:
            return state
        # Another job of the same name: of the one before, nothing holds.
        self._watch, self._last_event = JobWatch(self._store, self.name, self._now, self._monotonic), None
        return self._watch.read()
