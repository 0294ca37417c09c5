"""A store that ignores conditions is refused, by name, before it can lose anything."""

import os
from itertools import count

import pytest

from orchestrator.errors import UsageError
from orchestrator.store import Store, StoreUnreachable, Unsupported, open_store
from orchestrator.store.document import random_nonce
from orchestrator.store.memory import MemoryStore
from orchestrator.store.probe import probe, require_conditional_writes
from tests.support.moto_server import environment, make_bucket, running_moto

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


def test_a_real_server_that_ignores_conditions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
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
