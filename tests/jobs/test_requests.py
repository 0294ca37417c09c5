"""Requests: each its own object, read oldest first; what cannot be read asks for nothing."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.jobs import layout
from orchestrator.jobs.bell import Ear
from orchestrator.jobs.requests import read_requests, send_request
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Conflict, ReplyLost
from tests.jobs.conftest import NOW
from tests.support.interposed import Away, InterposedStore, LostReplies, Operation

Nonce = Callable[[], str]


def test_requests_are_read_oldest_first(store: MemoryStore, nonce: Nonce) -> None:
    for seconds in (5, 1, 60, 3):
        send_request(store, "digits", "pause", now=NOW + timedelta(seconds=seconds), by="ada", nonce=nonce)
    waiting = [(request.at - NOW).total_seconds() for request in read_requests(store, "digits")]
    assert waiting == [1, 3, 5, 60]
    assert list(read_requests(store, "another")) == []


def test_a_request_comes_back_whole(store: MemoryStore, nonce: Nonce) -> None:
    sent = send_request(store, "digits", "resize", now=NOW, by="ada", nonce=nonce, workers=2)
    assert list(read_requests(store, "digits")) == [sent]
    assert (sent.kind, sent.by, sent.workers) == ("resize", "ada", 2)


def test_two_of_the_same_moment_are_two(store: MemoryStore, nonce: Nonce) -> None:
    send_request(store, "digits", "pause", now=NOW, by="ada", nonce=nonce)
    send_request(store, "digits", "resume", now=NOW, by="bob", nonce=nonce)
    assert {request.by for request in read_requests(store, "digits")} == {"ada", "bob"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"kind": "explode"}', b"\xff"])
def test_what_cannot_be_read_is_passed_over(store: MemoryStore, nonce: Nonce, body: bytes) -> None:
    store.put(layout.request_key("digits", "20261124T120000"), body)
    sent = send_request(store, "digits", "cancel", now=NOW, by="ada", nonce=nonce)
    assert list(read_requests(store, "digits")) == [sent]


def test_a_request_is_known_by_its_key_whatever_it_says_of_itself(store: MemoryStore, nonce: Nonce) -> None:
    """Else one that was altered by hand could name another's key, and would never be removed itself."""
    sent = send_request(store, "digits", "cancel", now=NOW, by="ada", nonce=nonce)
    store.put(layout.request_key("digits", "altered"), sent.model_dump_json().encode())
    assert [request.id for request in read_requests(store, "digits")] == [sent.id, "altered"]


def test_a_request_whose_reply_was_lost_is_sent_and_rung_for(store: MemoryStore, nonce: Nonce) -> None:
    """It will be carried out: whoever was told that it failed would be surprised."""
    sent = send_request(
        InterposedStore(store, LostReplies(".json", applied=True)), "digits", "pause", now=NOW, by="ada", nonce=nonce
    )
    assert list(read_requests(store, "digits")) == [sent]
    assert Ear(store).heard()


def test_a_request_that_comes_back_as_a_conflict_with_itself_is_sent(store: MemoryStore, nonce: Nonce) -> None:
    def sent_twice(operation: Operation, _key: str, call: Callable[[], object]) -> object:
        if operation == "create":
            call()
        return call()

    sent = send_request(InterposedStore(store, sent_twice), "digits", "pause", now=NOW, by="ada", nonce=nonce)
    assert list(read_requests(store, "digits")) == [sent]
    assert Ear(store).heard()


def test_a_request_that_is_not_there_after_a_lost_reply_is_in_doubt(store: MemoryStore, nonce: Nonce) -> None:
    lost = InterposedStore(store, LostReplies(".json", applied=False))
    with pytest.raises(ReplyLost):
        send_request(lost, "digits", "pause", now=NOW, by="ada", nonce=nonce)
    assert not Ear(store).heard()


def test_a_request_that_cannot_be_read_back_is_in_doubt(store: MemoryStore, nonce: Nonce) -> None:
    lose, away = LostReplies(".json", applied=True), Away(frozenset({"get"}))

    def troubled(operation: Operation, key: str, call: Callable[[], object]) -> object:
        return lose(operation, key, lambda: away(operation, key, call))

    with pytest.raises(ReplyLost, match=r"Cannot tell whether .* was written: it cannot be read back"):
        send_request(InterposedStore(store, troubled), "digits", "pause", now=NOW, by="ada", nonce=nonce)


def test_anothers_request_in_its_place_is_a_conflict(store: MemoryStore) -> None:
    send_request(store, "digits", "pause", now=NOW, by="ada", nonce=lambda: "00000001")
    with pytest.raises(Conflict):
        send_request(store, "digits", "resume", now=NOW, by="bob", nonce=lambda: "00000001")
