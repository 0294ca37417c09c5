"""Slow work by threads: piece by piece, as late as it says or as soon as somebody asks."""

from collections.abc import Iterator

import pytest

from orchestrator.agent.background import Threads, in_pieces
from tests.support.waiting import wait_until


def test_piece_by_piece_until_it_says_that_all_is_done() -> None:
    pieces: list[int] = []

    def work() -> float | None:
        pieces.append(len(pieces))
        return None if len(pieces) == 3 else 0.0

    task = Threads().start(work, "work")
    wait_until(lambda: task.done, "all is done", 10)
    assert pieces == [0, 1, 2]
    assert not task.crashed


def test_who_is_woken_goes_on_at_once() -> None:
    pieces: list[str] = []

    def work() -> Iterator[float]:
        pieces.append("first")
        yield 3600.0
        pieces.append("second")

    task = Threads().start(in_pieces(work()), "work")
    wait_until(lambda: pieces == ["first"], "the first piece is done", 10)
    assert not task.done
    task.wake()
    wait_until(lambda: task.done, "the second one is done too", 10)
    assert pieces == ["first", "second"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_ends_it_and_is_known() -> None:
    task = Threads().start(lambda: 1 / 0, "work")
    task.join(10)
    assert (task.done, task.crashed) == (True, True)
