"""What a controller remembers of one job between two looks: nothing that it could not read again.

Who leads is the only writer of a job's record and assignments, so it reads them once. Anything that speaks against
that (a conflict, a reply that was lost, an error) makes it doubt what it remembers, and read again.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import ValidationError

from orchestrator.controller.observation import LaunchFailure
from orchestrator.fleets.protocol import InstanceState, Sighting
from orchestrator.jobs import layout
from orchestrator.jobs.head import Head
from orchestrator.jobs.instances import Assignment, Heartbeat
from orchestrator.jobs.record import JobRecord
from orchestrator.spec.models import JobSpec
from orchestrator.store.document import Document, Stored, parse
from orchestrator.store.protocol import UNCHANGED, Store, StoreError

D = TypeVar("D", bound=Document)

LOOKS_APART_S = 30.0
BEATS_APART_S = 60.0


@dataclass
class Watched(Generic[D]):
    """A document that is read when there is a reason to, and then only if it has changed."""

    key: str
    model: type[D]
    stored: Stored[D] | None = None
    is_known: bool = False
    """Whether `stored` can be relied on."""

    def read(self, store: Store) -> Stored[D] | None:
        """As the store has it now."""
        found = store.get_if_changed(self.key, self.stored.etag if self.stored else None)
        if found is not UNCHANGED:
            self.stored = parse(store, found, self.model) if found is not None else None
        self.is_known = True
        return self.stored

    def known(self, store: Store) -> Stored[D] | None:
        """As it was read or written last."""
        return self.stored if self.is_known else self.read(store)

    def wrote(self, stored: Stored[D]) -> None:
        """This controller has written it."""
        self.stored, self.is_known = stored, True


@dataclass
class WatchedHeartbeat:
    """A heartbeat, since when it has not changed, and since when its workers have come no further."""

    key: str
    changed_at_s: float
    moved_at_s: float
    etag: str | None = None
    beat: Heartbeat | None = None
    is_live: bool = False
    """Whether two came one soon after the other under this controller's eyes: the second was begun after the first had
    come, so what it says was true not long ago."""
    _late: int | None = None
    _read_at_s: float = float("-inf")
    _came_at_s: float = float("-inf")
    """When one came between two looks that were close together."""

    def read(self, store: Store, now_s: float) -> bool:
        """Look for a new one; False when there is none."""
        looked_s, self._read_at_s = now_s - self._read_at_s, now_s
        found = store.get_if_changed(self.key, self.etag)
        if found is UNCHANGED:
            return False
        if found is None:
            was, self.beat, self.etag = self.beat, None, None
            return was is not None
        try:
            beat = Heartbeat.model_validate_json(found.body)
        except ValidationError as error:
            raise StoreError(
                f"{store.url}: {self.key} is not a heartbeat: {error.errors(include_url=False)[0]['msg']}"
            ) from error
        self.etag = found.etag
        if self._is_late(beat):
            return False
        before, self.beat, self._late, self.changed_at_s = _stand(self.beat), beat, None, now_s
        is_near = looked_s <= LOOKS_APART_S
        self.is_live = is_near and now_s - self._came_at_s <= BEATS_APART_S
        self._came_at_s = now_s if is_near else float("-inf")
        if _stand(beat) != before:
            self.moved_at_s = now_s
        return True

    def _is_late(self, beat: Heartbeat) -> bool:
        """Whether an older beat has come after a newer one. An agent that began to count anew goes on counting."""
        if self.beat is None or beat.count >= self.beat.count:
            return False
        if self._late is not None and beat.count > self._late:
            return False
        self._late = beat.count
        return True


def _stand(beat: Heartbeat | None) -> tuple[object, ...]:
    """What changes while workers come further; what they complain of does not count, for it may change for ever."""
    if beat is None:
        return ()
    return (beat.generation, beat.state, beat.activity, beat.progress.step if beat.progress else None)


@dataclass
class JobWatch:
    """One job, as one leader knows it."""

    job: str
    record: Watched[JobRecord]
    head: Watched[Head]
    mark: str | None = None
    """The etag of the mark that the job had in the listing: another mark is another job of the same name."""
    spec: JobSpec | None = None
    heartbeats: dict[str, WatchedHeartbeat] = field(default_factory=dict)
    assignments: dict[str, Watched[Assignment]] = field(default_factory=dict)
    sightings: dict[str, tuple[Sighting, float]] = field(default_factory=dict)
    """What the fleet said of its instances when it was last asked, and when; one that it does not know is left out."""
    launch_failures: dict[str, LaunchFailure] = field(default_factory=dict)
    launched_at_s: dict[str, float] = field(default_factory=dict)
    """When the fleet last took a launch, by this controller's clock: it may show the instance only later."""
    taken_since_s: dict[str, float] = field(default_factory=dict)
    """When it first took it, by the same clock."""
    fleet_trouble: str = ""
    """Why the fleet has not answered for a while."""
    fleet_asked_at_s: float = float("-inf")
    """When the fleet was asked for what it has answered last, by the same clock."""
    end_told_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of an instance that the fleet was told to end: since when its absence counts, and when it was told last."""
    unknown_since_s: dict[str, float] = field(default_factory=dict)
    """Per instance that the fleet does not know, since when that is so."""
    never_was: set[str] = field(default_factory=set)
    """Instances that are certainly not there: made up by this controller, and not launched but in vain for certain."""
    terminated: set[str] = field(default_factory=set)
    """Instances that have ended for good: the fleet was told, and they are gone, or have been absent for long."""
    events_flushed: int = 0
    head_told: tuple[object, ...] | None = None
    """What the heartbeats told of the head when it was last read."""
    head_age: int = 0
    """For how many looks it has not been read."""
    observed_at_s: float = 0.0
    """When the last observation was made."""
    writes: dict[str, float] = field(default_factory=dict)
    """Of the versions of the record that this controller has written, or may have: the nonce, and until when time is
    counted in it. A reply may be lost, and what is read later shows which of them was applied."""
    decided_at_s: float | None = None
    """When the last decision was made that changed nothing; None: none since something has changed."""
    _named: tuple[Stored[JobRecord] | None, list[str]] = (None, [])
    """The instances that the record names, and the record: asked for several times in each look at a job."""

    @classmethod
    def of(cls, job: str, mark: str | None = None, writes: dict[str, float] | None = None) -> "JobWatch":
        """`writes`: what this process has written of it before."""
        record, head = Watched(layout.record_key(job), JobRecord), Watched(layout.head_key(job), Head)
        return cls(job, record=record, head=head, mark=mark, writes={} if writes is None else writes)

    @property
    def instances(self) -> list[str]:
        """Every instance that the record names and that may be there; empty before there is a record."""
        stored, named = self._named
        if stored is not self.record.stored:
            stored = self.record.stored
            named = [] if stored is None else instances_of(stored.value)
            self._named = stored, named
        return named

    @property
    def is_loaded(self) -> bool:
        """Whether record and spec are known."""
        return self.record.is_known and self.record.stored is not None and self.spec is not None

    def doubt(self) -> None:
        """What is remembered of the documents may be wrong: all will be read again.

        What was written when stays known: it counts if what is read again is that very version.
        """
        self.record.is_known = self.head.is_known = False
        for assignment in self.assignments.values():
            assignment.is_known = False
        self.head_told = self.decided_at_s = None

    def since_written_s(self, now_s: float) -> float | None:
        """How long ago this controller wrote the record as it is now; None: another did."""
        stored = self.record.stored
        counted_s = self.writes.get(stored.value.nonce) if stored is not None else None
        return None if counted_s is None else max(0.0, now_s - counted_s)

    def state(self, instance: str) -> InstanceState | None:
        """How an instance is, by the fleet's last word; None: it does not know it."""
        seen = self.sightings.get(instance)
        return None if seen is None else seen[0].state

    def saw(self, instance: str, sighting: Sighting | None, told_at_s: float) -> None:
        """The fleet's word on an instance. Gone is gone: whoever says otherwise later tells how it was before."""
        state = self.state(instance)
        if state is InstanceState.GONE:
            return
        if state is not (None if sighting is None else sighting.state):
            self.decided_at_s = None
        if sighting is None:
            self.sightings.pop(instance, None)
            return
        self.sightings[instance] = sighting, told_at_s
        if sighting.state is not InstanceState.GONE:
            self.lives(instance, told_at_s)

    def lives(self, instance: str, at_s: float) -> None:
        """An instance shows itself: its absence counts from then. One that was taken for ended came late: it is not."""
        self.terminated.discard(instance)
        if instance in self.end_told_s:
            self.end_told_s[instance] = at_s, self.end_told_s[instance][1]

    def heartbeat(self, instance: str, now_s: float) -> WatchedHeartbeat:
        """The heartbeat of an instance; what was never seen is as old as this."""
        if instance not in self.heartbeats:
            self.heartbeats[instance] = WatchedHeartbeat(layout.heartbeat_key(instance), now_s, now_s)
        return self.heartbeats[instance]

    def assignment(self, instance: str) -> Watched[Assignment]:
        """The assignment of an instance."""
        if instance not in self.assignments:
            self.assignments[instance] = Watched(layout.assignment_key(instance), Assignment)
        return self.assignments[instance]

    def forget(self, instance: str) -> None:
        """An instance is gone for good."""
        self.terminated.add(instance)
        self.never_was.discard(instance)
        self.assignments.pop(instance, None)
        self.launched_at_s.pop(instance, None)
        self.taken_since_s.pop(instance, None)
        self.end_told_s.pop(instance, None)

    def keep_only(self, instances: list[str]) -> None:
        """Forget what is known of instances that are not the job's any more."""
        if len(self.heartbeats) + len(self.sightings) > 2 * len(instances):
            self.heartbeats = {i: known for i, known in self.heartbeats.items() if i in instances}
            self.assignments = {i: known for i, known in self.assignments.items() if i in instances}
            self.sightings = {i: known for i, known in self.sightings.items() if i in instances}
            self.unknown_since_s = {i: since_s for i, since_s in self.unknown_since_s.items() if i in instances}


def instances_of(record: JobRecord) -> list[str]:
    """Every instance that the record names and that may be there."""
    generations = [g for g in (record.generation, record.upcoming) if g is not None and not g.released]
    named = [i for g in generations for i in g.instances] + list(record.retired) + [use.instance for use in record.uses]
    return list(dict.fromkeys(named))
