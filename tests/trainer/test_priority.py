"""What is done in spare time takes nobody's, and is done at last all the same."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from tests.support.clock import Clock
from trainer.priority import NICENESS, SpareTime, at_once, give_way

T = TypeVar("T")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a thread a priority of its own")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spare(clock: Clock) -> SpareTime:
    return SpareTime(clock)


def in_a_thread(work: Callable[[], T]) -> T:
    """What it comes to in a thread that is of no use to anybody afterwards."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def standing() -> tuple[int, int, int]:
    """Of this thread: which it is, its policy, its niceness."""
    return threading.get_ident(), os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_at_once_is_at_once() -> None:
    assert at_once(threading.get_ident) == threading.get_ident()


def test_as_long_as_there_is_patience_a_thread_does_its_work_itself(spare: SpareTime, clock: Clock) -> None:
    spare.begin(5)
    assert spare(threading.get_ident) == threading.get_ident()
    clock.now_s += 4.9
    assert spare(threading.get_ident) == threading.get_ident()
    clock.now_s += 0.1
    assert spare(threading.get_ident) != threading.get_ident()
    spare.begin(5)
    assert spare(threading.get_ident) == threading.get_ident(), "the next work has its own patience"


def test_whoever_waits_for_it_ends_the_patience(spare: SpareTime) -> None:
    spare.begin(5)
    spare.hurry()
    assert spare(threading.get_ident) != threading.get_ident()


@linux
def test_it_is_idle_before_and_nice_afterwards_and_neither_is_the_training(spare: SpareTime) -> None:
    before = standing()

    def work() -> list[Any]:
        spare.take()
        spare.begin(5)
        first = spare(standing)
        spare.hurry()
        return [first, spare(standing), standing()]

    (_, idle, _), (_, policy, niceness), (_, still, _) = in_a_thread(work)
    assert idle == still == os.SCHED_IDLE
    assert (policy, niceness) == (os.SCHED_OTHER, max(NICENESS, before[2]))
    assert standing() == before


@linux
def test_nice_threads_stay_as_nice_as_their_process_was_made() -> None:
    def twice() -> int:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
        give_way()
        return standing()[2]

    assert in_a_thread(twice) == 15


@linux
def test_where_that_is_not_allowed_it_is_nice(spare: SpareTime, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)

    def work() -> tuple[int, int, int]:
        spare.take()
        return standing()

    _, policy, niceness = in_a_thread(work)
    assert policy == os.SCHED_OTHER
    assert niceness >= NICENESS


@pytest.mark.parametrize("patience_s", [0, 5])
def test_what_a_piece_raises_reaches_whoever_has_the_work(spare: SpareTime, patience_s: float) -> None:
    spare.begin(patience_s)

    def broken() -> None:
        raise OSError(28, "no space left")

    with pytest.raises(OSError, match="no space left"):
        spare(broken)
