"""Requests: each its own object, read oldest first; what cannot be read asks for nothing."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.jobs import layout
from orchestrator.jobs.requests import read_requests, send_request
from orchestrator.store.memory import MemoryStore
from tests.jobs.conftest import NOW

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
