"""Removing a job that is over, with everything that it has left in the bucket.

What tells that there is such a job goes last: first all that it has left, then its record, then its spec. So a removal
that was broken off is completed by the same call, and until then the name is taken.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from orchestrator.errors import UsageError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import instances_left, load_spec
from orchestrator.jobs.former import remember_generation
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import JobRecord
from orchestrator.store import document
from orchestrator.store.document import Nonce, Stored
from orchestrator.store.protocol import Conflict, ReplyLost, Store

_REMOVED = b'{"removed": true}'
"""In the place of the spec while its record goes: the same job, submitted now, must not complete what is half gone."""
_AT_ONCE = 8
"""Requests to a remote store are mostly waiting."""


def remove_job(store: Store, job: str, now: datetime, nonce: Nonce) -> int:
    """Remove a job and return how many objects there were of it.

    Raises UsageError while it is not over, or while a controller has still to clean up after it.
    """
    check_removable(store, job)
    stored = document.load(store, layout.record_key(job), JobRecord)
    if stored is not None:
        remember_generation(store, job, stored.value.last_generation)
    elif not _is_half_removed(store, job):
        stored = _claim(store, job, now, nonce)
    removed = _remove(store, _left_of(store, job))
    store.abort_uploads(layout.job_prefix(job), older_than_s=0.0)
    _require_same(store, job, stored)
    _mark_removed(store, job)
    return removed + _remove(store, [layout.record_key(job)]) + _remove(store, [layout.spec_key(job)])


def check_removable(store: Store, job: str) -> None:
    """Raise UsageError unless a job can be removed now; one whose submit or removal was broken off can be."""
    if _is_half_removed(store, job):
        return
    load_spec(store, job)
    stored = document.load(store, layout.record_key(job), JobRecord)
    if stored is None:
        return
    record = stored.value
    if not record.phase.over:
        raise UsageError(f"{job} is {record.phase}: end it first with: elastic cancel {job}")
    left = dict.fromkeys([*record.retired, *(use.instance for use in record.uses)])
    if left or store.get(layout.todo_key(job)) is not None:
        what = f"its instances ({', '.join(left)})" if left else "it"
        raise UsageError(
            f"{job} is over, but a controller has still to clean up after {what}: try again in a moment, or start a "
            "controller with: elastic daemon"
        )


def _is_half_removed(store: Store, job: str) -> bool:
    spec = store.get(layout.spec_key(job))
    return spec is not None and spec.body == _REMOVED


def _mark_removed(store: Store, job: str) -> None:
    """Replace the spec, as records are: under a condition. Two who remove the same job may both do so."""
    spec = store.get(layout.spec_key(job))
    if spec is None or spec.body == _REMOVED:
        return
    try:
        store.replace(spec.key, _REMOVED, spec.etag)
    except (Conflict, ReplyLost):
        if not _is_half_removed(store, job) and store.get(spec.key) is not None:
            raise


def _require_same(store: Store, job: str, stored: Stored[JobRecord] | None) -> None:
    """Raise UsageError where another has removed the job, and its name has been submitted again since."""
    found = store.get(layout.record_key(job))
    is_gone = found is None and (_is_half_removed(store, job) or store.get(layout.spec_key(job)) is None)
    is_same = found is not None and stored is not None and found.etag == stored.etag
    if not (is_gone or is_same):
        raise UsageError(f"{job} was removed by another, and submitted again meanwhile: that job stays")


def _claim(store: Store, job: str, now: datetime, nonce: Nonce) -> Stored[JobRecord]:
    """A job whose submit was broken off ends here, so that the submit, should it go on after all, finds it taken."""
    ended = JobRecord(name=job, phase=JobPhase.CANCELLED, reason="removed", created_at=now, ended_at=now)
    try:
        return document.create(store, layout.record_key(job), ended, nonce)
    except Conflict:
        raise UsageError(f"{job} was submitted just now: end it first with: elastic cancel {job}") from None


def _left_of(store: Store, job: str) -> Iterator[str]:
    """Everything but record and spec."""
    for prefix in (layout.requests_prefix(job), layout.job_prefix(job)):
        for entry in store.list(prefix):
            if entry.key not in (layout.record_key(job), layout.spec_key(job)):
                yield entry.key
    for instance in instances_left(store, job):
        yield from (layout.assignment_key(instance), layout.heartbeat_key(instance))
    yield layout.todo_key(job)


def _remove(store: Store, keys: Iterable[str]) -> int:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return sum(1 for _ in pool.map(store.delete, keys))
