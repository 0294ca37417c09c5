"""Answers that are good for a while: prices, quotas, which zones have a type."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAKESHIFT_KEPT_S = 60.0


@dataclass(frozen=True)
class Makeshift(Generic[T]):
    """What is taken where there was no answer: good until it is worth asking again."""

    value: T


class Remembered(Generic[T]):
    """Values by name, each asked for anew once it is older than `kept_s`. For several threads."""

    def __init__(self, kept_s: float, monotonic: Callable[[], float]) -> None:
        self._kept_s, self._monotonic = kept_s, monotonic
        self._values: dict[Hashable, tuple[T, float]] = {}
        self._lock = threading.Lock()

    def get(self, name: Hashable, ask: Callable[[], T | Makeshift[T]]) -> T:
        """The value, asked for if need be; what `ask` raises is remembered by nobody."""
        with self._lock:
            found = self._values.get(name)
        if found is not None and self._monotonic() < found[1]:
            return found[0]
        told = ask()
        value, kept_s = (told.value, MAKESHIFT_KEPT_S) if isinstance(told, Makeshift) else (told, self._kept_s)
        with self._lock:
            self._values[name] = value, self._monotonic() + kept_s
        return value
