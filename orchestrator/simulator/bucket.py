"""The bucket, as each process sees it: one true store, and a network in between that loses, delays and repeats.

What a caller sees is what the S3 store makes of such troubles: `Conflict` when a condition did not hold, `ReplyLost`
when a write may have been applied or may still be, `StoreError` else.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar, cast

from orchestrator.simulator.faults import Fault, Faults
from orchestrator.simulator.story import Story
from orchestrator.simulator.timeline import Died, Process, Timeline
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import (
    UNCHANGED,
    Conflict,
    Entry,
    Object,
    Progress,
    ReplyLost,
    StoreError,
    StoreUnreachable,
    Unchanged,
)

T = TypeVar("T")
Operation = Literal["get", "create", "replace", "put", "delete", "list"]
Watcher = Callable[[str, str, bytes | None], None]
"""Called after each change with the process, the key and the new body (None: deleted)."""

_GIVEN_UP_AFTER_S = (2.0, 25.0)
"""How long the S3 store tries before it says that it cannot."""
_UPLOAD_S = (0.2, 4.0)
_SLOW_UPLOAD_S = (20.0, 90.0)


class Bucket:
    """The one truth."""

    url = "simulated:"

    def __init__(self, timeline: Timeline, faults: Faults, story: Story) -> None:
        self.timeline = timeline
        self.faults = faults
        self.story = story
        self.store = MemoryStore()
        self.watchers: list[Watcher] = []
        self.away_until_s = 0.0

    def changed(self, process: str, key: str, body: bytes | None) -> None:
        """Tell the watchers."""
        for watcher in self.watchers:
            watcher(process, key, body)


class BucketView:
    """A store (`orchestrator.store.Store`) as one process has it."""

    billed = False

    def __init__(
        self,
        bucket: Bucket,
        process: Process,
        retried: Callable[[float, float], None] | None = None,
        waits: Callable[[float, float], None] = lambda _since_s, _until_s: None,
    ) -> None:
        """`retried` is told from when to when this process could not do what it wanted: nobody can blame it.

        `waits` is told so when the time begins, for those who look meanwhile.
        """
        self.url = bucket.url
        self.cut_until_s = 0.0
        self._bucket = bucket
        self._store = bucket.store
        self._process = process
        self._excuse = retried
        self._waits = waits

    @property
    def process_name(self) -> str:
        """Whose view this is."""
        return self._process.name

    # --- the protocol -------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Object | None:
        return self._call("get", key, lambda: self._store.get(key))

    def get_if_changed(self, key: str, etag: str | None) -> Object | None | Literal[Unchanged.UNCHANGED]:
        found = self.get(key)
        return UNCHANGED if found is not None and found.etag == etag else found

    def create(self, key: str, body: bytes) -> str:
        return self._call("create", key, lambda: self._written(key, body, self._store.create(key, body)))

    def replace(self, key: str, body: bytes, etag: str) -> str:
        return self._call("replace", key, lambda: self._written(key, body, self._store.replace(key, body, etag)))

    def put(self, key: str, body: bytes) -> str:
        return self._call("put", key, lambda: self._written(key, body, self._store.put(key, body)))

    def delete(self, key: str, etag: str | None = None) -> None:
        def delete() -> None:
            there = self._store.get(key) is not None
            self._store.delete(key, etag)
            if there:
                self._written(key, None, None)

        self._call("delete", key, delete)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return iter(self._call("list", prefix, lambda: list(self._store.list(prefix, start_after))))

    def prefixes(self, prefix: str) -> Iterator[str]:
        return iter(self._call("list", prefix, lambda: list(self._store.prefixes(prefix))))

    def upload(self, path: Path, key: str, progress: Progress | None = None, *, known: str | None = None) -> str:
        raise NotImplementedError("simulated files are uploaded by `upload_bytes`")

    def download(self, key: str, path: Path, progress: Progress | None = None) -> str:
        raise NotImplementedError("simulated files are read with `get`")

    def abort_uploads(self, prefix: str, older_than_s: float) -> int:  # noqa: ARG002 - what breaks off leaves nothing
        return self._call("list", prefix, lambda: 0)

    def upload_bytes(self, key: str, body: bytes) -> str:
        """Upload a file that is not on a real disk; returns its SHA-256. What arrives altered is refused, as by S3."""
        fault = self._bucket.faults.in_upload()
        seconds = self._bucket.faults.chance.uniform(*(_SLOW_UPLOAD_S if fault is Fault.SLOW_UPLOAD else _UPLOAD_S))
        if fault is not None:
            self._bucket.story.fault(self._process.name, "{}: {}", fault, key)
        if fault is None:
            self._process.sleep(seconds)
        else:
            self._wait(seconds)
        if fault is Fault.PARTIAL_UPLOAD:
            raise StoreError(f"the upload of {key} broke off")
        if fault is Fault.CORRUPTED_UPLOAD:
            raise StoreError(f"the upload of {key} was refused: it arrived with another SHA-256")
        self.put(key, body)
        return hashlib.sha256(body).hexdigest()

    # --- what happens on the way --------------------------------------------------------------------------------------

    def _written(self, key: str, body: bytes | None, etag: T) -> T:
        self._bucket.story.tell(self._process.name, "{} {}", "writes" if body is not None else "deletes", key)
        self._bucket.changed(self._process.name, key, body)
        return etag

    def _call(self, operation: Operation, key: str, apply: Callable[[], T]) -> T:
        if not self._process.alive:
            raise Died
        if max(self._bucket.away_until_s, self.cut_until_s) > self._bucket.timeline.now_s:
            self._wait_in_vain(operation, key)
        fault = self._bucket.faults.in_call()
        if fault is None:
            return apply()
        return self._disturbed(fault, operation, key, apply)

    def _wait_in_vain(self, operation: Operation, key: str) -> None:
        """The S3 store tries for a while; raises unless the bucket has come back by then."""
        begun_s = self._bucket.timeline.now_s
        try:
            self._wait(self._bucket.faults.chance.uniform(*_GIVEN_UP_AFTER_S))
        finally:
            self._excused(begun_s)
        if max(self._bucket.away_until_s, self.cut_until_s) > self._bucket.timeline.now_s:
            self._bucket.story.fault(self._process.name, "cannot reach the bucket: {} {}", operation, key)
            raise StoreUnreachable(f"{operation} {key}: the bucket does not answer")

    def _disturbed(self, fault: Fault, operation: Operation, key: str, apply: Callable[[], T]) -> T:
        writes = operation not in ("get", "list")
        if fault in _OF_WRITES and not writes:
            fault = Fault.ERROR_503
        if fault is Fault.BUSY_409 and operation == "put":
            fault = Fault.THROTTLED
        if fault is Fault.OWN_412 and operation not in ("create", "replace"):
            fault = Fault.REPLY_LOST
        faults, begun_s = self._bucket.faults, self._bucket.timeline.now_s
        faults.count(fault)
        self._bucket.story.fault(self._process.name, "{}: {} {}", fault, operation, key)
        try:
            return cast(T, _DISTURBANCES[fault](self, f"{operation} {key}", apply))
        finally:
            self._excused(begun_s)

    def _wait(self, seconds: float) -> None:
        now_s = self._bucket.timeline.now_s
        self._waits(now_s, now_s + seconds)
        self._process.sleep(seconds)

    def _excused(self, since_s: float) -> None:
        if self._excuse is not None:
            self._excuse(since_s, self._bucket.timeline.now_s)

    def _crash_before(self, _what: str, _apply: Callable[[], object]) -> object:
        self._process.die()
        raise Died

    def _crash_after(self, _what: str, apply: Callable[[], object]) -> object:
        try:
            apply()
        finally:
            self._process.die()
        raise Died

    def _reply_lost(self, what: str, apply: Callable[[], object]) -> object:
        self._apply_unseen(apply)
        raise ReplyLost(f"{what}: the reply was lost")

    def _lost(self, what: str, _apply: Callable[[], object]) -> object:
        raise ReplyLost(f"{what}: no reply came")

    def _late(self, what: str, apply: Callable[[], object]) -> object:
        self._apply_later(apply)
        self._wait(self._bucket.faults.chance.uniform(*_GIVEN_UP_AFTER_S))
        raise ReplyLost(f"{what}: no reply came")

    def _doubled(self, _what: str, apply: Callable[[], object]) -> object:
        result = apply()
        self._apply_later(apply)
        return result

    def _delayed(self, _what: str, apply: Callable[[], object]) -> object:
        """On the way there, or on the way back."""
        seconds = min(60.0, self._bucket.faults.chance.expovariate(1 / 4.0))
        return self._around(seconds, apply)

    def _stalled(self, _what: str, apply: Callable[[], object]) -> object:
        return self._around(self._bucket.faults.chance.uniform(20.0, 200.0), apply)

    def _around(self, seconds: float, apply: Callable[[], object]) -> object:
        if self._bucket.faults.chance.random() < 0.5:
            self._wait(seconds)
            return apply()
        result = apply()
        self._wait(seconds)
        return result

    def _busy(self, what: str, _apply: Callable[[], object]) -> object:
        self._wait(self._bucket.faults.chance.uniform(*_GIVEN_UP_AFTER_S))
        raise StoreError(f"{what}: another write of it is under way, again and again")

    def _own_412(self, what: str, apply: Callable[[], object]) -> object:
        self._apply_unseen(apply)
        raise Conflict(f"{what}: it is not what it was")

    def _error_500(self, what: str, apply: Callable[[], object]) -> object:
        """Nobody knows whether it was applied."""
        self._wait(self._bucket.faults.chance.uniform(*_GIVEN_UP_AFTER_S))
        if self._bucket.faults.chance.random() < 0.5:
            self._apply_unseen(apply)
        raise ReplyLost(f"{what}: an internal error")

    def _error_503(self, what: str, _apply: Callable[[], object]) -> object:
        self._wait(self._bucket.faults.chance.uniform(*_GIVEN_UP_AFTER_S))
        raise StoreError(f"{what}: the service is not available")

    def _apply_later(self, apply: Callable[[], object]) -> None:
        delay_s = min(120.0, self._bucket.faults.chance.expovariate(1 / 15.0))
        self._bucket.timeline.after(delay_s, lambda: self._apply_unseen(apply))

    @staticmethod
    def _apply_unseen(apply: Callable[[], object]) -> None:
        """Nobody hears how it went."""
        try:
            apply()
        except (Conflict, StoreError):
            return


_OF_WRITES = {Fault.REPLY_LOST, Fault.LOST, Fault.LATE, Fault.DOUBLED, Fault.BUSY_409, Fault.OWN_412, Fault.ERROR_500}
_DISTURBANCES: dict[Fault, Callable[[BucketView, str, Callable[[], object]], object]] = {
    Fault.CRASH_BEFORE: BucketView._crash_before,
    Fault.CRASH_AFTER: BucketView._crash_after,
    Fault.REPLY_LOST: BucketView._reply_lost,
    Fault.LOST: BucketView._lost,
    Fault.LATE: BucketView._late,
    Fault.DOUBLED: BucketView._doubled,
    Fault.DELAYED: BucketView._delayed,
    Fault.STALLED: BucketView._stalled,
    Fault.BUSY_409: BucketView._busy,
    Fault.OWN_412: BucketView._own_412,
    Fault.ERROR_500: BucketView._error_500,
    Fault.ERROR_503: BucketView._error_503,
    Fault.THROTTLED: BucketView._error_503,
}
