"""Events: numbered, in order, never rewritten."""

from collections.abc import Callable

import pytest

from orchestrator.jobs import layout
from orchestrator.jobs.events import Event, EventKind, read_events, write_event
from orchestrator.store import Conflict, ReplyLost, StoreError
from orchestrator.store.memory import MemoryStore
from tests.jobs.conftest import NOW
from tests.support.interposed import InterposedStore, LostReplies, Operation


def event(number: int, message: str = "") -> Event:
    return Event(
        number=number,
        at=NOW,
        epoch=1,
        generation=2,
        kind=EventKind.NOTE,
        message=message or f"event {number}",
        inputs={"utilization_percent": 81.2, "rungs": [0, 1], "none": None},
    )


def test_events_are_read_in_the_order_of_their_numbers(store: MemoryStore) -> None:
    for number in (3, 1, 2, 11, 10):
        write_event(store, "digits", event(number))
    assert [e.number for e in read_events(store, "digits")] == [1, 2, 3, 10, 11]
    assert [e.number for e in read_events(store, "digits", after=3)] == [10, 11]
    assert list(read_events(store, "digits", after=11)) == []
    assert list(read_events(store, "another")) == []


def test_an_event_comes_back_whole(store: MemoryStore) -> None:
    write_event(store, "digits", event(1))
    assert list(read_events(store, "digits")) == [event(1)]


def test_a_number_is_told_once_and_what_was_told_stays(store: MemoryStore) -> None:
    write_event(store, "digits", event(1, "the first word"))
    write_event(store, "digits", event(1, "another"))
    assert [e.message for e in read_events(store, "digits")] == ["the first word"]


@pytest.mark.parametrize("applied", [True, False])
def test_after_a_lost_reply_writing_again_is_writing_once(applied: bool) -> None:
    store = InterposedStore(MemoryStore(), LostReplies(".json", applied=applied))
    with pytest.raises(ReplyLost):
        write_event(store, "digits", event(1))
    write_event(store, "digits", event(1))
    assert list(read_events(store, "digits")) == [event(1)]


def test_what_is_no_event_is_named(store: MemoryStore) -> None:
    store.put(layout.event_key("digits", 1), b"{}")
    with pytest.raises(StoreError, match=r"events/000000000001\.json is not an event"):
        list(read_events(store, "digits"))


def test_a_write_that_was_refused_and_left_nothing_is_no_event() -> None:
    """S3 answers 409 while another write of the key is under way; that one may come to nothing."""

    def refuse(operation: Operation, key: str, call: Callable[[], object]) -> object:
        if operation == "create":
            raise Conflict(f"{key} is being written by others")
        return call()

    with pytest.raises(StoreError, match=r"events/000000000001\.json could not be written"):
        write_event(InterposedStore(MemoryStore(), refuse), "digits", event(1))
