"""Large files go in parts, several at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

PART_BYTES = 32 * 1024**2  # each is a write, which is what storage services charge most for
THREADS = 4
_MOST_PARTS = 10_000  # S3 takes no more in one upload

T = TypeVar("T")


def part_size(total_bytes: int) -> int:
    """How large the parts of a file are: the same for the same size, so that an interrupted transfer can go on."""
    return max(PART_BYTES, -(-total_bytes // _MOST_PARTS))


def in_order(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Do jobs on a few threads and yield what they give, in their order.

    A job is taken only when it is about to be done, so that few parts are in memory at a time. The first that fails
    ends it: what was not begun is left out, what was is waited for.
    """
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store-parts")
    try:
        begun: deque[Future[T]] = deque()
        for job in jobs:
            begun.append(pool.submit(job))
            if len(begun) > THREADS:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
