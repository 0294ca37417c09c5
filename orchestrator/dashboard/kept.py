"""What was read last, for all who ask: read again when it is too old, by one thread at a time."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator.errors import ElasticError
from orchestrator.store.protocol import StoreError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

SLOW_S = 5.0
"""A read that takes longer is worth a word: what is shown meanwhile is old."""


@dataclass(frozen=True)
class Reading(Generic[T_co]):
    """What there is, and how good it is."""

    value: T_co | None
    """None: nothing was ever read."""
    age_s: float | None
    error: ElasticError | None
    """Why the last try has brought nothing; None: it has."""


class Kept(Generic[T]):
    """One thing that is read from a store.

    Reads are made in a thread of their own, which holds up no exit: a store that hangs keeps nobody waiting for longer
    than they want, and they are given what was read before.
    """

    def __init__(self, read: Callable[[], T], fresh_s: float, monotonic: Callable[[], float]) -> None:
        self._read = read
        self._fresh_s = fresh_s
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._is_reading = False
        self._began_s = float("-inf")
        self._value: T | None = None
        self._value_s: float | None = None
        self._error: ElasticError | None = None

    def get(self, patience_s: float) -> Reading[T]:
        """What there is, after waiting so long at most for something newer if that is due."""
        with self._changed:
            if not self._is_reading and self._monotonic() - self._began_s >= self._fresh_s:
                self._is_reading, self._began_s = True, self._monotonic()
                threading.Thread(target=self._read_once, name="dashboard reads", daemon=True).start()
            self._changed.wait_for(lambda: not self._is_reading, timeout=patience_s)
            return self._reading()

    def _reading(self) -> Reading[T]:
        now_s, error = self._monotonic(), self._error
        if self._is_reading and now_s - self._began_s >= SLOW_S:
            error = StoreError("The store does not answer: it may be slow, or out of reach.")
        age_s = None if self._value_s is None else max(0.0, now_s - self._value_s)
        return Reading(self._value, age_s, error)

    def _read_once(self) -> None:
        value: T | None = None
        error: ElasticError | None = None
        try:
            value = self._read()
        except ElasticError as told:
            error = told
        except Exception as fault:  # noqa: BLE001 - else pages would show what is old for ever, and not say so
            error = ElasticError(f"This is a fault of elastic, not yours: {type(fault).__name__}: {fault}")
        with self._changed:
            if error is None:
                self._value, self._value_s = value, self._began_s
            self._error, self._is_reading = error, False
            self._changed.notify_all()
