"""Answers that are good for a while: prices, quotas, which zones have a type."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """Values by name, each asked for anew once it is older than `kept_s`. For several threads."""

    def __init__(self, kept_s: float, monotonic: Callable[[], float]) -> None:
        self._kept_s, self._monotonic = kept_s, monotonic
        self._values: dict[Hashable, tuple[T, float]] = {}
        self._lock = threading.Lock()

    def get(self, name: Hashable, ask: Callable[[], T]) -> T:
        """The value, asked for if need be; what `ask` raises is remembered by nobody."""
        with self._lock:
            found = self._values.get(name)
        if found is not None and self._monotonic() - found[1] < self._kept_s:
            return found[0]
        value = ask()
        with self._lock:
            self._values[name] = value, self._monotonic()
        return value
