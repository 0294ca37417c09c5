"""Waiting no longer than one was told to, also for a store that does not answer."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from orchestrator.cli.in_time import FIRST_ANSWER_S, in_time
from orchestrator.store.local import LocalStore
from orchestrator.store.protocol import Store, StoreError
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import put_training
from tests.support.waiting import wait_until

Sleep = Callable[[float], object]


def test_what_comes_in_time_comes_and_an_end_is_an_end() -> None:
    assert list(in_time(lambda _: iter([1, 2, 3]), 60, time.monotonic)) == [1, 2, 3]


def test_what_is_raised_there_is_raised_here() -> None:
    def fail(_: Sleep) -> Iterator[int]:
        yield 1
        raise StoreError("no answer")

    looks = in_time(fail, 60, time.monotonic)
    assert next(looks) == 1
    with pytest.raises(StoreError, match="no answer"):
        next(looks)


def test_it_ends_though_the_next_never_comes() -> None:
    never = threading.Event()

    def hang(_: Sleep) -> Iterator[int]:
        yield 1
        never.wait()
        yield 2

    began_s = time.monotonic()
    assert list(in_time(hang, 0.2, time.monotonic)) == [1]
    assert 0.2 <= time.monotonic() - began_s < FIRST_ANSWER_S
    never.set()


def test_who_makes_them_ends_once_nobody_waits() -> None:
    before = set(threading.enumerate())  # of which some may just be ending

    def count(sleep: Sleep) -> Iterator[int]:
        while True:
            yield 1
            sleep(0.01)

    for _ in in_time(count, 60, time.monotonic):
        break
    wait_until(lambda: set(threading.enumerate()) <= before, "the thread ends")


@pytest.mark.parametrize("answer", ["an error", "none"])
def test_wait_keeps_its_timeout_when_the_store_goes_away(
    elastic: Elastic, store: Store, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    put_training(store)
    back = threading.Event()
    looks = LocalStore.get_if_changed
    seen = 0

    def go_away(self: LocalStore, key: str, etag: str | None) -> object:
        nonlocal seen
        seen += 1
        if seen <= 5:
            return looks(self, key, etag)
        if answer == "none":
            back.wait()
        raise StoreError("no answer.")

    monkeypatch.setattr(LocalStore, "get_if_changed", go_away)
    began_s = time.monotonic()
    outcome = elastic("wait", "digits", "--timeout", "4s")
    back.set()
    assert outcome.code == 3
    assert time.monotonic() - began_s < 4 + 10
    assert "digits was running when the store last answered" in outcome.err
    assert "running" in outcome.out
