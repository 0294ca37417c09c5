"""Doing the same for many: one after the other or side by side, and the lease is kept meanwhile.

Who does it stores what comes out by itself, so that what was done is kept also where the rest was not.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from orchestrator.store.protocol import StoreError

KEEP_EVERY_S = 1.0
"""So often the lease is looked after while requests take their time: well below a quarter of its ttl."""

T = TypeVar("T")


class Each(Protocol):
    """Calls a function for each item; False when leadership was lost meanwhile, and some may be left out."""

    def __call__(self, function: Callable[[T], object], items: Iterable[T], /) -> bool: ...


class Spread(Protocol):
    """An `Each` that is told how leadership is kept: renews where that is due, and says whether it is held."""

    def __call__(
        self, function: Callable[[T], object], items: Iterable[T], keep_leading: Callable[[], bool], /
    ) -> bool: ...


def one_by_one(
    function: Callable[[T], object], items: Iterable[T], keep_leading: Callable[[], bool] = lambda: True
) -> bool:
    """In this thread, in order."""
    for item in items:
        function(item)
        if not keep_leading():
            return False
    return True


@dataclass(frozen=True)
class SideBySide:
    """On threads. None of them goes on after the call, however it ends: nobody meets them at the next."""

    threads: Executor
    keep_every_s: float = KEEP_EVERY_S

    def __call__(
        self, function: Callable[[T], object], items: Iterable[T], keep_leading: Callable[[], bool], /
    ) -> bool:
        """However long a request takes, the lease is kept. Raises what the first raises."""
        waiting = {self.threads.submit(function, item) for item in items}
        try:
            while waiting:
                done, waiting = wait(waiting, self.keep_every_s, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                if not keep_leading():
                    return False
        finally:
            self._see_out([future for future in waiting if not future.cancel()], keep_leading)
        return True

    def _see_out(self, running: list[Future[object]], keep_leading: Callable[[], bool]) -> None:
        while wait(running, self.keep_every_s).not_done:
            with suppress(StoreError):
                keep_leading()
