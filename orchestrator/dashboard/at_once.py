"""Several requests at once, in threads that hold up no exit, as those of a pool would while a store hangs."""

import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

_AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""


def at_once(do: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """What comes of each, in their order. Raises what the first of them raised, once all are done."""
    waiting: SimpleQueue[tuple[int, A]] = SimpleQueue()
    done: dict[int, B] = {}
    failed: dict[int, Exception] = {}
    for numbered in enumerate(items):
        waiting.put(numbered)

    def work() -> None:
        while True:
            try:
                number, item = waiting.get_nowait()
            except Empty:
                return
            try:
                done[number] = do(item)
            except Exception as error:  # noqa: BLE001 - raised again below, where it is waited for
                failed[number] = error

    threads = [
        threading.Thread(target=work, name="dashboard asks", daemon=True) for _ in range(min(_AT_ONCE, waiting.qsize()))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[min(failed)]
    return [done[number] for number in sorted(done)]
