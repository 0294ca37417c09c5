"""A store in this process's memory: for tests and the simulator."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from hashlib import md5, sha256
from pathlib import Path
from threading import Lock
from typing import Literal

from orchestrator.store.disk import arriving, explained, shown, unaltered
from orchestrator.store.keys import check_directory, check_key, split_prefix
from orchestrator.store.protocol import UNCHANGED, Conflict, Entry, Missing, Object, Progress, StoreError, Unchanged

_PAGE = 1000


class MemoryStore:
    """A dictionary and a sorted list of its keys under one lock. As on S3, the etag is the MD5 of the body."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._objects: dict[str, Object] = {}
        self._keys: list[str] = []  # sorted, so that a listing costs what it returns, not what the store holds

    @property
    def url(self) -> str:
        return "memory:"

    @property
    def billed(self) -> bool:
        return False

    def get(self, key: str) -> Object | None:
        return self._objects.get(check_key(key))

    def get_if_changed(self, key: str, etag: str | None) -> Object | None | Literal[Unchanged.UNCHANGED]:
        found = self.get(key)
        return UNCHANGED if found is not None and found.etag == etag else found

    def create(self, key: str, body: bytes) -> str:
        check_key(key)
        with self._lock:
            if key in self._objects:
                raise Conflict(f"{key} exists")
            return self._write(key, body)

    def replace(self, key: str, body: bytes, etag: str) -> str:
        check_key(key)
        with self._lock:
            self._expect(key, etag)
            return self._write(key, body)

    def put(self, key: str, body: bytes) -> str:
        check_key(key)
        with self._lock:
            return self._write(key, body)

    def delete(self, key: str, etag: str | None = None) -> None:
        check_key(key)
        with self._lock:
            if etag is not None:
                self._expect(key, etag)
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        split_prefix(prefix)
        last = start_after
        while page := self._page(prefix, last):
            yield from (Entry(found.key, len(found.body), found.etag) for found in page)
            last = page[-1].key

    def prefixes(self, prefix: str) -> Iterator[str]:
        check_directory(prefix)
        last = prefix
        while page := self._page(prefix, last, limit=1):
            name, slash, _ = page[0].key.removeprefix(prefix).partition("/")
            if slash:
                yield name
            last = f"{prefix}{name}0" if slash else page[0].key  # '0' follows '/': past all that lies under the name

    def upload(self, path: Path, key: str, progress: Progress | None = None, *, known: str | None = None) -> str:
        check_key(key)
        with explained(f"read {shown(path)}"):
            body = path.read_bytes()
        digest = unaltered(path, sha256(body).hexdigest(), known)
        self.put(key, body)
        if progress is not None:
            progress(len(body))
        return digest

    def download(self, key: str, path: Path, progress: Progress | None = None) -> str:
        found = self.get(key)
        if found is None:
            raise Missing(key)
        with arriving(path) as temporary:
            temporary.write_bytes(found.body)
        if progress is not None:
            progress(len(found.body))
        return sha256(found.body).hexdigest()

    def abort_uploads(self, prefix: str, older_than_s: float) -> int:  # noqa: ARG002 - none is ever unfinished
        split_prefix(prefix)
        return 0

    def _expect(self, key: str, etag: str) -> None:
        found = self._objects.get(key)
        if found is None or found.etag != etag:
            raise Conflict(f"{key} is not what it was")

    def _write(self, key: str, body: bytes) -> str:
        if key not in self._objects:
            self._check_tree(key)
            insort(self._keys, key)
        etag = md5(body, usedforsecurity=False).hexdigest()
        self._objects[key] = Object(key, bytes(body), etag)
        return etag

    def _check_tree(self, key: str) -> None:
        """Refuse what a local directory could not hold, so that tests in memory show it."""
        parts = key.split("/")
        parents = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        below = bisect_right(self._keys, key + "/")
        is_directory = below < len(self._keys) and self._keys[below].startswith(key + "/")
        if is_directory or any(parent in self._objects for parent in parents):
            raise StoreError(f"Cannot write {key}: no key may be a directory of another.")

    def _page(self, prefix: str, start_after: str, limit: int = _PAGE) -> Sequence[Object]:
        with self._lock:
            first = max(bisect_left(self._keys, prefix), bisect_right(self._keys, start_after))
            beyond = bisect_left(self._keys, prefix + "\x7f")  # after every character that a key may have
            return [self._objects[key] for key in self._keys[first : min(first + limit, beyond)]]
