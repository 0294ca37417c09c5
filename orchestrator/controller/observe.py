"""Seeing: reads a job's objects and asks the fleet, and puts both into one Observation.

Reads are conditional, so what has not changed costs next to nothing. How long a heartbeat has been silent is measured
by this process's own monotonic clock, from when its last change was seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from orchestrator.controller.observation import InstanceView, LaunchFailure, Observation
from orchestrator.fleets.protocol import Fleet, InstanceState
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_spec
from orchestrator.jobs.head import Head
from orchestrator.jobs.instances import Assignment, Heartbeat
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import read_requests
from orchestrator.spec.models import JobSpec
from orchestrator.store.document import Document, Stored, parse
from orchestrator.store.protocol import UNCHANGED, Store, StoreError

D = TypeVar("D", bound=Document)


@dataclass
class _Watched(Generic[D]):
    """A document that is read again only when it has changed."""

    key: str
    model: type[D]
    stored: Stored[D] | None = None

    def read(self, store: Store) -> Stored[D] | None:
        found = store.get_if_changed(self.key, self.stored.etag if self.stored else None)
        if found is not UNCHANGED:
            self.stored = parse(store, found, self.model) if found is not None else None
        return self.stored


@dataclass
class _WatchedHeartbeat:
    """A heartbeat, and since when it has not changed."""

    key: str
    changed_at: float
    moved_at: float
    """When its workers last came further."""
    etag: str | None = None
    beat: Heartbeat | None = None

    def read(self, store: Store, now: float) -> Heartbeat | None:
        found = store.get_if_changed(self.key, self.etag)
        if found is UNCHANGED:
            return self.beat
        if found is None:
            self.etag = self.beat = None
            return None
        before = _stand(self.beat)
        try:
            self.beat = Heartbeat.model_validate_json(found.body)
        except ValueError as error:
            raise StoreError(f"{store.url}: {self.key} is not a heartbeat: {error}") from error
        self.etag, self.changed_at = found.etag, now
        if _stand(self.beat) != before:
            self.moved_at = now
        return self.beat


def _stand(beat: Heartbeat | None) -> tuple[object, ...]:
    """What changes while workers come further; what they complain of does not count, for it may change for ever."""
    if beat is None:
        return ()
    return (beat.generation, beat.state, beat.activity, beat.progress.step if beat.progress else None)


@dataclass
class JobWatch:
    """Everything that this controller remembers of one job between two looks: nothing that it could not read again."""

    record: _Watched[JobRecord]
    head: _Watched[Head]
    spec: JobSpec | None = None
    heartbeats: dict[str, _WatchedHeartbeat] = field(default_factory=dict)
    assignments: dict[str, _Watched[Assignment]] = field(default_factory=dict)
    launch_failures: dict[str, LaunchFailure] = field(default_factory=dict)
    terminated: set[str] = field(default_factory=set)
    events_flushed: int = 0

    @classmethod
    def of(cls, job: str) -> "JobWatch":
        return cls(record=_Watched(layout.record_key(job), JobRecord), head=_Watched(layout.head_key(job), Head))


@dataclass
class Observer:
    """Reads jobs for one leader."""

    store: Store
    fleets: Mapping[str, Fleet]
    monotonic: Callable[[], float]

    def observe(self, job: str, watch: JobWatch, epoch: int) -> tuple[Observation, Stored[JobRecord]] | None:
        """One job as it is now; None if its submit was not completed."""
        stored = watch.record.read(self.store)
        if stored is None:
            return None
        if watch.spec is None:
            watch.spec = load_spec(self.store, job)
        record, spec = stored.value, watch.spec
        fleet = self.fleets[spec.resources.fleet]
        instances = _instances_of(record)
        states = fleet.describe(instances) if instances else {}
        views = {i: self._view(i, watch, states.get(i)) for i in instances}
        head = watch.head.read(self.store)  # after the heartbeats: at least as new as what they tell
        observation = Observation(
            epoch=epoch,
            spec=spec,
            record=record,
            head=head.value if head else None,
            requests=tuple(read_requests(self.store, job)),
            instances=views,
            prices={rung.instance: fleet.usd_per_hour(rung.instance) for rung in spec.resources.ladder},
        )
        return observation, stored

    def _view(self, instance: str, watch: JobWatch, state: InstanceState | None) -> InstanceView:
        now = self.monotonic()
        heartbeat = watch.heartbeats.setdefault(
            instance, _WatchedHeartbeat(layout.heartbeat_key(instance), changed_at=now, moved_at=now)
        )
        assignment = watch.assignments.setdefault(instance, _Watched(layout.assignment_key(instance), Assignment))
        stored = assignment.read(self.store)
        beat = heartbeat.read(self.store, now)
        return InstanceView(
            state=state,
            heartbeat=beat,
            silent_s=max(0.0, now - heartbeat.changed_at),
            stalled_s=max(0.0, now - heartbeat.moved_at),
            assignment=stored.value if stored else None,
            launch_failure=watch.launch_failures.pop(instance, None),  # told once; launching again tells again
            terminated=instance in watch.terminated,
        )


def _instances_of(record: JobRecord) -> list[str]:
    generations = [g for g in (record.generation, record.upcoming) if g is not None and not g.released]
    named = [i for g in generations for i in g.instances] + list(record.retired) + [use.instance for use in record.uses]
    return list(dict.fromkeys(named))
