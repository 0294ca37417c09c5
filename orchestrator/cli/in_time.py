"""What comes one by one, until the time is up: also when the next never comes.

A store that hangs can hold a single request for most of a minute. So they are made in a thread of its own, which is
left behind when the time is up.
"""

import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

FIRST_ANSWER_S = 5.0
"""How long the first may take at least: whoever gives no time at all still wants to know how things stand."""


class _NobodyWaits(Exception):
    """Ends an iterator in its sleep."""


def in_time(
    make: Callable[[Callable[[float], object]], Iterator[T]], timeout_s: float, monotonic: Callable[[], float]
) -> Iterator[T]:
    """The items of an iterator as they come, for so long; what it raises is raised here.

    `make` is given the function to sleep with, by which the iterator ends once nobody waits for it.
    """
    over = threading.Event()
    came: SimpleQueue[tuple[T] | Exception | None] = SimpleQueue()

    def sleep(seconds: float) -> None:
        if over.wait(seconds):
            raise _NobodyWaits

    def collect() -> None:
        try:
            for item in make(sleep):
                came.put((item,))
            came.put(None)
        except Exception as error:  # noqa: BLE001 - raised again below, where it is waited for
            came.put(error)

    until_s = monotonic() + timeout_s
    left_s = max(timeout_s, FIRST_ANSWER_S)
    threading.Thread(target=collect, name="looks", daemon=True).start()
    try:
        while True:
            item = came.get(timeout=left_s)
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item[0]
            left_s = max(0.0, until_s - monotonic())
    except Empty:
        return
    finally:
        over.set()
