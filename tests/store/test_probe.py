"""A store that ignores conditions is refused, by name, before it can lose anything."""

import os
from collections.abc import Iterator
from itertools import count
from threading import Barrier

import pytest

from orchestrator.errors import UsageError
from orchestrator.store import Entry, Store, StoreUnreachable, Unsupported, open_store
from orchestrator.store.document import random_nonce
from orchestrator.store.examination import Need, examine
from orchestrator.store.memory import MemoryStore
from orchestrator.store.probe import probe, require_conditional_writes
from tests.support.moto_server import environment, make_bucket, running_moto
from tests.support.s3_servers import running_rclone, use_server

PROMISES = [
    "creating a key that exists is refused",
    "replacing with a stale etag is refused",
    "replacing a missing key is refused",
    "deleting with a stale etag is refused",
    "what was refused changed nothing",
]


class Careless(MemoryStore):
    """Takes conditions and ignores some of them, as several S3 servers do."""

    def __init__(self, *ignored: str) -> None:
        super().__init__()
        self._ignored = ignored

    def create(self, key: str, body: bytes) -> str:
        return self.put(key, body) if "create" in self._ignored else super().create(key, body)

    def replace(self, key: str, body: bytes, etag: str) -> str:
        if "replace missing" in self._ignored and self.get(key) is None:
            return self.put(key, body)
        if "replace stale" in self._ignored and self.get(key) is not None:
            return self.put(key, body)
        return super().replace(key, body, etag)

    def delete(self, key: str, etag: str | None = None) -> None:
        super().delete(key, None if "delete" in self._ignored else etag)


class Incapable(MemoryStore):
    """Answers that it has no conditional writes."""

    def create(self, key: str, body: bytes) -> str:
        raise Unsupported(f"PutObject of {key} ({len(body)} bytes) with If-None-Match is not implemented.")


def test_a_store_that_keeps_its_conditions_passes_and_is_left_clean(store: Store) -> None:
    report = probe(store, random_nonce)
    assert [check.promise for check in report.checks] == PROMISES
    assert [check for check in report.checks if not check.kept] == []
    assert report.kept and report.url == store.url
    require_conditional_writes(store, random_nonce)
    assert list(store.list("")) == []


@pytest.mark.parametrize(
    ("ignored", "promise"),
    [
        ("create", PROMISES[0]),
        ("replace stale", PROMISES[1]),
        ("replace missing", PROMISES[2]),
        ("delete", PROMISES[3]),
    ],
)
def test_each_ignored_condition_is_found(ignored: str, promise: str) -> None:
    store = Careless(ignored)
    report = probe(store, random_nonce)
    assert promise in [check.promise for check in report.checks if not check.kept]
    with pytest.raises(UsageError, match=promise) as caught:
        require_conditional_writes(store, random_nonce)
    assert caught.value.exit_code == 2
    assert "memory:" in str(caught.value)
    assert list(store.list("")) == []


def test_a_store_that_has_no_conditional_writes_is_refused() -> None:
    with pytest.raises(UsageError, match="with If-None-Match is not implemented"):
        require_conditional_writes(Incapable(), random_nonce)


@pytest.mark.requires("rclone")
def test_rclones_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one that takes every condition and keeps none."""
    with running_rclone() as url:
        use_server(url, monkeypatch)
        make_bucket("careless")
        store = open_store("s3://careless/prefix", os.environ)
        with pytest.raises(UsageError, match="s3://careless/prefix does not keep conditional writes") as caught:
            require_conditional_writes(store, random_nonce)
        assert "Use AWS S3, a server that keeps them, or a local directory" in str(caught.value)
        broken = {one.check.promise for one in examine(store, random_nonce) if not one.check.kept}
        assert set(PROMISES) - broken == set(), "nothing is kept"
        assert list(store.list("")) == []


def test_a_careless_moto_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_moto(ignore_conditions=True) as url:
        for name, value in environment(url).items():
            monkeypatch.setenv(name, value)
        make_bucket("careless")
        store = open_store("s3://careless/prefix", os.environ)
        with pytest.raises(UsageError, match="s3://careless/prefix does not keep conditional writes"):
            require_conditional_writes(store, random_nonce)
        assert list(store.list("")) == []


def test_a_store_that_is_not_reachable_is_not_called_careless(moto_server: str) -> None:
    with pytest.raises(StoreUnreachable, match="no bucket"):
        require_conditional_writes(open_store("s3://no-such-bucket", os.environ), random_nonce)


def test_probes_do_not_meet() -> None:
    """Two daemons that start at once each use keys of their own."""
    numbers = count()
    seen: list[str] = []

    class Watched(MemoryStore):
        def create(self, key: str, body: bytes) -> str:
            seen.append(key)
            return super().create(key, body)

    watched = Watched()
    for _ in range(2):
        probe(watched, lambda: f"nonce-{next(numbers)}")
    assert len(set(seen)) == 2


def test_an_examination_finds_all_that_is_needed_and_leaves_nothing(store: Store) -> None:
    found = examine(store, random_nonce)
    assert [one for one in found if one.need is not Need.NOT_USED and not one.check.kept] == []
    assert {one.name for one in found} >= {"conditions", "contention", "listing", "order", "parts", "polling"}
    assert list(store.list("")) == []


class Stale(MemoryStore):
    """Lists, and reads, what was there a write ago."""

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        yield from list(super().list(prefix, start_after))[1:]


class Unordered(MemoryStore):
    """As a directory bucket lists."""

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        yield from reversed(list(super().list(prefix, start_after)))


class TwoWinners(MemoryStore):
    """Looks, and only then writes; the other of two always comes in between."""

    def __init__(self) -> None:
        super().__init__()
        self._both_looked = Barrier(2)

    def create(self, key: str, body: bytes) -> str:
        there = self.get(key) is not None
        if "/contention/" in key:
            self._both_looked.wait(10)
        return super().create(key, body) if there else self.put(key, body)


@pytest.mark.parametrize(
    ("store_class", "name"), [(Stale, "listing"), (Unordered, "order"), (TwoWinners, "contention")]
)
def test_an_examination_finds_what_is_missing(store_class: type[MemoryStore], name: str) -> None:
    found = examine(store_class(), random_nonce)
    assert name in {one.name for one in found if one.need is Need.REQUIRED and not one.check.kept}
