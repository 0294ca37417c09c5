"""Records survive what plain objects do not: lost replies, and values that come back."""

from collections.abc import Callable
from itertools import count

import pytest

from orchestrator.store import Conflict, ReplyLost, Store, StoreError, document
from orchestrator.store.document import Document, Stored
from orchestrator.store.memory import MemoryStore

KEY = "jobs/digits/record.json"


class Record(Document):
    """A record with one field."""

    phase: str


class RecordOfTomorrow(Record):
    """The same record, as newer code writes it."""

    colour: str = "red"


class Losing(MemoryStore):
    """Writes are applied, or are not, and then the reply is lost."""

    def __init__(self, *, applied: bool) -> None:
        super().__init__()
        self.losing = False
        self.meanwhile: Callable[[], object] = lambda: None
        self._applied = applied

    def create(self, key: str, body: bytes) -> str:
        return self._write_and_lose(lambda: super(Losing, self).create(key, body))

    def replace(self, key: str, body: bytes, etag: str) -> str:
        return self._write_and_lose(lambda: super(Losing, self).replace(key, body, etag))

    def _write_and_lose(self, write: Callable[[], str]) -> str:
        if not self.losing:
            return write()
        self.losing = False
        if self._applied:
            write()
        self.meanwhile()
        raise ReplyLost("The reply was lost.")


class Repeating(MemoryStore):
    """Applies a replacement, loses the reply, and sends it again, as an HTTP client does: a conflict with oneself."""

    def replace(self, key: str, body: bytes, etag: str) -> str:
        super().replace(key, body, etag)
        return super().replace(key, body, etag)


@pytest.fixture
def nonce() -> Callable[[], str]:
    """Nonces that a person can tell apart."""
    numbers = count(1)
    return lambda: f"nonce-{next(numbers)}"


def test_a_record_is_read_as_it_was_written(store: Store, nonce: Callable[[], str]) -> None:
    assert document.load(store, KEY, Record) is None
    created = document.create(store, KEY, Record(phase="pending"), nonce)
    assert (created.value.seq, created.value.nonce) == (1, "nonce-1")
    assert document.load(store, KEY, Record) == created
    swapped = document.swap(store, KEY, created, Record(phase="running"), nonce)
    assert (swapped.value.seq, swapped.value.nonce, swapped.value.phase) == (2, "nonce-2", "running")
    assert document.load(store, KEY, Record) == swapped


def test_only_one_creates_and_only_one_swaps(store: Store, nonce: Callable[[], str]) -> None:
    created = document.create(store, KEY, Record(phase="pending"), nonce)
    with pytest.raises(Conflict):
        document.create(store, KEY, Record(phase="pending"), nonce)
    document.swap(store, KEY, created, Record(phase="running"), nonce)
    with pytest.raises(Conflict):
        document.swap(store, KEY, created, Record(phase="cancelled"), nonce)
    assert phase_in(store) == "running"


def test_a_value_that_came_back_is_not_the_old_one(store: Store, nonce: Callable[[], str]) -> None:
    """A -> B -> A: the phases are the same, the records are not."""
    paused = document.create(store, KEY, Record(phase="paused"), nonce)
    running = document.swap(store, KEY, paused, Record(phase="running"), nonce)
    document.swap(store, KEY, running, Record(phase="paused"), nonce)
    with pytest.raises(Conflict):
        document.swap(store, KEY, paused, Record(phase="cancelled"), nonce)
    assert phase_in(store) == "paused"


def test_a_lost_reply_of_an_applied_write_is_success(nonce: Callable[[], str]) -> None:
    store = Losing(applied=True)
    store.losing = True
    created = document.create(store, KEY, Record(phase="pending"), nonce)
    store.losing = True
    swapped = document.swap(store, KEY, created, Record(phase="running"), nonce)
    assert document.load(store, KEY, Record) == swapped
    document.swap(store, KEY, swapped, Record(phase="paused"), nonce)


def test_a_lost_reply_of_a_swap_that_was_not_applied_is_a_conflict(nonce: Callable[[], str]) -> None:
    store = Losing(applied=False)
    store.losing = True
    with pytest.raises(ReplyLost):  # nobody else has it: this write may still come
        document.create(store, KEY, Record(phase="pending"), nonce)
    created = document.create(store, KEY, Record(phase="pending"), nonce)
    store.losing = True
    with pytest.raises(Conflict):
        document.swap(store, KEY, created, Record(phase="running"), nonce)
    assert phase_in(store) == "pending"


def test_a_conflict_with_oneself_is_success(nonce: Callable[[], str]) -> None:
    store = Repeating()
    created = document.create(store, KEY, Record(phase="pending"), nonce)
    swapped = document.swap(store, KEY, created, Record(phase="running"), nonce)
    assert document.load(store, KEY, Record) == swapped


def test_a_lost_reply_and_somebody_quick_is_a_conflict(nonce: Callable[[], str]) -> None:
    """The write was applied and replaced before it could be read back: what is there now decides."""
    store = Losing(applied=True)
    created = document.create(store, KEY, Record(phase="pending"), nonce)

    def somebody_quick() -> None:
        ours = document.load(store, KEY, Record)
        assert ours is not None
        document.swap(store, KEY, ours, Record(phase="cancelled"), nonce)

    store.losing, store.meanwhile = True, somebody_quick
    with pytest.raises(Conflict):
        document.swap(store, KEY, created, Record(phase="running"), nonce)
    assert phase_in(store) == "cancelled"


def test_an_outcome_that_cannot_be_read_back_stays_open(
    nonce: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Losing(applied=True)
    created = document.create(store, KEY, Record(phase="pending"), nonce)
    store.losing = True

    def out_of_order(key: str) -> None:
        raise StoreError("The store is out of order.")

    monkeypatch.setattr(store, "get", out_of_order)
    with pytest.raises(ReplyLost, match="out of order"):
        document.swap(store, KEY, created, Record(phase="running"), nonce)


def test_older_code_reads_newer_records(store: Store, nonce: Callable[[], str]) -> None:
    document.create(store, KEY, RecordOfTomorrow(phase="running"), nonce)
    assert phase_in(store) == "running"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"seq": 1}', b'{"phase": 1}', b"\xff\xfe"])
def test_what_cannot_be_read_is_named(store: Store, body: bytes) -> None:
    store.put(KEY, body)
    with pytest.raises(StoreError, match=f"{KEY} in .* is no Record"):
        document.load(store, KEY, Record)


def test_garbage_in_the_way_is_a_conflict(store: Store, nonce: Callable[[], str]) -> None:
    store.put(KEY, b"garbage")
    with pytest.raises(Conflict):
        document.create(store, KEY, Record(phase="pending"), nonce)
    with pytest.raises(Conflict):
        document.swap(store, KEY, Stored(Record(phase="pending"), '"etag"'), Record(phase="running"), nonce)


def phase_in(store: Store) -> str:
    found = document.load(store, KEY, Record)
    assert found is not None
    return found.value.phase
