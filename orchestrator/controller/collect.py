"""Collecting garbage: removes what `garbage` chooses, of each job once an hour, and once more before it is settled.

A little at a time: so many jobs in one tick, so many objects of one job. What is left is removed at the next look.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice, takewhile
from zlib import crc32

from orchestrator.controller.act import remove_instance
from orchestrator.controller.garbage import (
    is_at_rest,
    spare_checkpoints,
    spare_decisions,
    spare_instances,
    spare_log_generations,
)
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import instances_left
from orchestrator.jobs.head import load_head
from orchestrator.jobs.pins import PinWatch
from orchestrator.jobs.record import JobRecord
from orchestrator.spec.models import JobSpec
from orchestrator.store import document
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Conflict, Store, StoreError, StoreUnreachable

COLLECT_EVERY_S = 3600.0
JOBS_A_TICK = 32
OBJECTS_A_TIME = 200
UPLOADS_MAY_TAKE_S = 24 * 3600.0
"""An upload that was begun so long ago while a job ran is not gone on with any more."""


@dataclass
class Collector:
    """One leader's garbage collection."""

    store: Store
    nonce: Nonce
    monotonic: Callable[[], float]
    still_leading: Callable[[], bool]
    complain: Callable[[str, str], None]
    _due_at_s: dict[str, float] = field(default_factory=dict)
    _pins: dict[str, PinWatch] = field(default_factory=dict)
    _left: int = JOBS_A_TICK

    def begin_tick(self, jobs: Iterable[str]) -> None:
        """A new tick, in which these are the jobs that there are."""
        self._left = JOBS_A_TICK
        known = set(jobs)
        self._due_at_s = {job: at_s for job, at_s in self._due_at_s.items() if job in known}
        self._pins = {job: pins for job, pins in self._pins.items() if job in known}

    def collect_if_due(self, spec: JobSpec, record: JobRecord) -> None:
        """Collect once an hour; jobs that one leader takes over together do not come all at once."""
        job, now_s = record.name, self.monotonic()
        due_at_s = self._due_at_s.setdefault(job, now_s + COLLECT_EVERY_S * (crc32(job.encode()) % 1000) / 1000)
        if now_s >= due_at_s:
            self.collect(spec, record)

    def collect(self, spec: JobSpec, record: JobRecord) -> bool:
        """Remove what is not needed; False if some is left for the next time.

        What the store does not allow is told, and left.
        """
        if self._left <= 0:
            return False
        self._left -= 1
        removals = takewhile(lambda _removed: self.still_leading(), self._removals(spec, record))
        try:
            removed = sum(1 for _ in islice(removals, OBJECTS_A_TIME))
        except StoreUnreachable:
            raise
        except StoreError as error:
            self.complain(record.name, f"what is not needed any more stays: {error}")
            removed = 0
        if removed == OBJECTS_A_TIME or not self.still_leading():
            return False
        self._due_at_s[record.name] = self.monotonic() + COLLECT_EVERY_S
        return True

    def _removals(self, spec: JobSpec, record: JobRecord) -> Iterable[str]:
        """Remove one object after the other, and say which."""
        job = record.name
        for instance in spare_instances(record, instances_left(self.store, job)):
            remove_instance(self.store, instance)
            yield instance
        for key in self._spare_keys(spec, record):
            self.store.delete(key)
            yield key
        at_rest = is_at_rest(record)
        if at_rest:
            yield from self._remove_checkpoints(record, spec.checkpoint.keep)
        age_s = 0.0 if at_rest and record.phase.over else UPLOADS_MAY_TAKE_S
        self.store.abort_uploads(layout.job_prefix(job), age_s)

    def _spare_keys(self, spec: JobSpec, record: JobRecord) -> Iterable[str]:
        """Logs and kept decisions."""
        names = self.store.prefixes(layout.logs_prefix(record.name))
        generations = [int(name[1:]) for name in names if name[:1] == "g" and name[1:].isdigit()]
        for number in spare_log_generations(generations, spec.logs.keep):
            yield from [entry.key for entry in self.store.list(layout.logs_prefix(record.name, number))]
        decisions = sorted(entry.key for entry in self.store.list(layout.decisions_prefix(record.name)))
        yield from spare_decisions(decisions)

    def _remove_checkpoints(self, record: JobRecord, keep: int) -> Iterable[str]:
        job = record.name
        pins = self._pins.setdefault(job, PinWatch(self.store, job, self.monotonic))
        keys = [entry.key for entry in self.store.list(layout.checkpoints_prefix(job))]
        stored = load_head(self.store, job)
        if stored is None:
            return
        spare = spare_checkpoints(record, keys, stored.value, pins.pinned(), keep)
        if not spare:
            return
        try:
            # A commit whose agent is gone may still be under way: after this write it comes too late.
            document.swap(self.store, layout.head_key(job), stored, stored.value, self.nonce)
        except Conflict:  # it came first, and what it names is needed
            yield from self._remove_checkpoints(record, keep)
            return
        for prefix, parts in spare.items():
            manifest = self.store.get(layout.manifest_key(prefix))
            self.store.delete(layout.manifest_key(prefix))
            # A reader pins, then looks for the manifest: who found it there is seen here.
            if manifest is not None and prefix in pins.pinned():
                self.store.put(layout.manifest_key(prefix), manifest.body)
                continue
            for key in parts:
                self.store.delete(key)
                yield key
