"""The bell wakes; pins hold."""

from itertools import count

from orchestrator.jobs import layout
from orchestrator.jobs.bell import Ear, ring
from orchestrator.jobs.bucket import submit_job
from orchestrator.jobs.pins import DEAD_AFTER_S, PinWatch, pin, renew, unpin
from orchestrator.jobs.requests import send_request
from orchestrator.store.memory import MemoryStore
from tests.jobs.conftest import NOW
from tests.support.specs import job_spec

_numbers = count(1)


def nonce() -> str:
    return f"n{next(_numbers):06d}"


def test_a_ring_is_heard_once() -> None:
    store = MemoryStore()
    ear = Ear(store)
    assert not ear.heard()
    ring(store, nonce)
    ring(store, nonce)
    assert ear.heard()
    assert not ear.heard()


def test_submits_and_requests_ring_after_they_have_left_their_object() -> None:
    store = MemoryStore()
    ear = Ear(store)
    submit_job(store, job_spec(), NOW, nonce)
    assert ear.heard()
    assert [entry.key for entry in store.list(layout.TODO)] == ["todo/jobs/digits"]
    request = send_request(store, "digits", "cancel", now=NOW, by="ada", nonce=nonce)
    assert ear.heard()
    assert store.get(f"todo/requests/digits/{request.id}.json") is not None


class TestPins:
    def setup_method(self) -> None:
        self.store, self.now_s = MemoryStore(), 0.0
        self.watch = PinWatch(self.store, "digits", lambda: self.now_s)
        self.stored = pin(self.store, "digits", "jobs/digits/checkpoints/x/", by="ada", nonce=nonce)
        self.name = self.stored.value.nonce

    def test_a_pin_holds_while_its_reader_lives(self) -> None:
        for _ in range(4):
            self.now_s += DEAD_AFTER_S - 1
            assert self.watch.pinned() == {"jobs/digits/checkpoints/x/"}
            self.stored = renew(self.store, "digits", self.name, self.stored, nonce)
        unpin(self.store, "digits", self.name)
        assert self.watch.pinned() == frozenset()

    def test_a_dead_readers_pin_goes(self) -> None:
        assert self.watch.pinned()
        self.now_s += DEAD_AFTER_S + 1
        assert self.watch.pinned() == frozenset()
        assert list(self.store.list(layout.pins_prefix("digits"))) == []

    def test_what_is_no_pin_holds_nothing(self) -> None:
        self.store.put(layout.pin_key("digits", "odd"), b"{")
        assert "jobs/digits/checkpoints/x/" in self.watch.pinned()
