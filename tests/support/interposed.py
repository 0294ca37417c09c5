"""A store with something between it and its user: lost replies, a store that is away, a death between two calls."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar, cast

from orchestrator.store.protocol import Entry, Object, Progress, ReplyLost, Store, StoreUnreachable, Unchanged

Operation = Literal["get", "create", "replace", "put", "delete", "list", "prefixes", "upload", "download", "abort"]
Around = Callable[[Operation, str, Callable[[], object]], object]
"""Called instead of each operation, with its name, its key and the operation itself, to be called or not."""

WRITES: frozenset[Operation] = frozenset({"create", "replace", "put", "delete", "upload"})

T = TypeVar("T")


def undisturbed(_operation: Operation, _key: str, call: Callable[[], object]) -> object:
    """Nothing in between."""
    return call()


class InterposedStore:
    """Another store, with `around` called for every operation."""

    def __init__(self, inner: Store, around: Around = undisturbed) -> None:
        self.inner = inner
        self.around = around

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def billed(self) -> bool:
        return self.inner.billed

    def get(self, key: str) -> Object | None:
        return self._do("get", key, lambda: self.inner.get(key))

    def get_if_changed(self, key: str, etag: str | None) -> Object | None | Literal[Unchanged.UNCHANGED]:
        return self._do("get", key, lambda: self.inner.get_if_changed(key, etag))

    def create(self, key: str, body: bytes) -> str:
        return self._do("create", key, lambda: self.inner.create(key, body))

    def replace(self, key: str, body: bytes, etag: str) -> str:
        return self._do("replace", key, lambda: self.inner.replace(key, body, etag))

    def put(self, key: str, body: bytes) -> str:
        return self._do("put", key, lambda: self.inner.put(key, body))

    def delete(self, key: str, etag: str | None = None) -> None:
        self._do("delete", key, lambda: self.inner.delete(key, etag))

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return iter(self._do("list", prefix, lambda: list(self.inner.list(prefix, start_after))))

    def prefixes(self, prefix: str) -> Iterator[str]:
        return iter(self._do("prefixes", prefix, lambda: list(self.inner.prefixes(prefix))))

    def upload(self, path: Path, key: str, progress: Progress | None = None, *, known: str | None = None) -> str:
        return self._do("upload", key, lambda: self.inner.upload(path, key, progress, known=known))

    def download(self, key: str, path: Path, progress: Progress | None = None) -> str:
        return self._do("download", key, lambda: self.inner.download(key, path, progress))

    def abort_uploads(self, prefix: str, older_than_s: float) -> int:
        return self._do("abort", prefix, lambda: self.inner.abort_uploads(prefix, older_than_s))

    def _do(self, operation: Operation, key: str, call: Callable[[], T]) -> T:
        return cast(T, self.around(operation, key, call))


class LostReplies:
    """The next writes to keys that end so are applied (or not), and their replies are lost."""

    def __init__(self, suffix: str, *, applied: bool, times: int = 1) -> None:
        self._suffix, self._applied, self.times = suffix, applied, times

    def __call__(self, operation: Operation, key: str, call: Callable[[], object]) -> object:
        if operation not in WRITES or not key.endswith(self._suffix) or self.times == 0:
            return call()
        self.times -= 1
        if self._applied:
            call()
        raise ReplyLost(f"{operation} {key}: the reply was lost")


class Away:
    """The store does not answer while `away`; `asked` counts how often it was tried in vain."""

    def __init__(self, operations: frozenset[Operation] | None = None) -> None:
        self._operations = operations
        self.away = True
        self.asked = 0

    def __call__(self, operation: Operation, key: str, call: Callable[[], object]) -> object:
        if self.away and (self._operations is None or operation in self._operations):
            self.asked += 1
            raise StoreUnreachable(f"{operation} {key}: the store does not answer")
        return call()
