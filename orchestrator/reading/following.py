"""A job watched through the bucket: what is new in it since the last look.

Needs neither the controller nor an instance to be alive. Looking costs little: objects that did not change are not
sent again, and events are asked for only when the record says that there are more.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from orchestrator.controller.watch import Watched, WatchedHeartbeat
from orchestrator.errors import CredentialsError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import JobState, load_record, load_spec
from orchestrator.jobs.events import Event, read_event
from orchestrator.jobs.head import Head
from orchestrator.jobs.instances import Heartbeat
from orchestrator.jobs.pace import pace_of
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.status import JobStatus, job_status
from orchestrator.spec.models import JobSpec
from orchestrator.store.protocol import Store, StoreError

LOCAL_INTERVAL_S = 0.3
REMOTE_INTERVAL_S = 1.0
PATIENCE_S = 300.0
"""How long a store may give no answer before following it ends."""
LONGEST_PAUSE_S = 10.0
FEW_EVENTS = 3
"""So few are not worth threads."""
_AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""


def interval_s(store: Store) -> float:
    """Time between two looks, which costs money where requests are billed."""
    if store.billed:
        return pace_of(billed=True).tick_s
    return REMOTE_INTERVAL_S if store.url.startswith("s3:") else LOCAL_INTERVAL_S


def events_of(store: Store, record: JobRecord, after: int = 0) -> Iterator[Event]:
    """All events up to this version of the record, those included that are only in its outbox yet.

    They are asked for by their numbers, several at once: that costs less than a listing, and takes less time.
    """
    in_outbox = {event.number: event for event in record.outbox}

    def event_of(number: int) -> Event | None:
        return in_outbox.get(number) or read_event(store, record.name, number)

    numbers = range(after + 1, record.last_event + 1)
    if len(numbers) <= FEW_EVENTS:
        yield from filter(None, map(event_of, numbers))
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from filter(None, pool.map(event_of, numbers))


@dataclass(frozen=True)
class Look:
    """A job at one moment."""

    spec: JobSpec
    state: JobState
    status: JobStatus
    new_events: tuple[Event, ...]
    at: datetime
    silent_s: float | None
    """How long the instances have said nothing; None when none has spoken yet."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.status.phase.over


class JobWatch:
    """Looks at one job again and again."""

    def __init__(self, store: Store, job: str, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self.store = store
        self.job = job
        self.now = now
        self.monotonic = monotonic
        self._spec: JobSpec | None = None
        self._record = Watched(layout.record_key(job), JobRecord)
        self._head = Watched(layout.head_key(job), Head)
        self._beats: dict[str, WatchedHeartbeat] = {}
        self._heard_at_s: float | None = None
        self._last_event = 0

    def look(self) -> Look:
        """The job as it is now, with what has happened since the last look. Raises UnknownJob, StoreError."""
        state = self.read()
        at = self.now()
        return Look(
            spec=state.spec,
            state=state,
            status=job_status(state, at),
            new_events=self._new_events(state.record),
            at=at,
            silent_s=None if self._heard_at_s is None or not state.heartbeats else self.monotonic() - self._heard_at_s,
        )

    def read(self) -> JobState:
        """The job as it is now, without its events. Raises UnknownJob, StoreError."""
        if self._spec is None:
            self._spec = load_spec(self.store, self.job)
        stored, head = self._record.read(self.store), self._head.read(self.store)
        record = (stored or load_record(self.store, self.job)).value  # the latter says what is wrong
        beats = self._heartbeats(record)
        return JobState(
            spec=self._spec,
            record=record,
            head=head.value if head else None,
            heartbeats=beats,
            billed=self.store.billed,
        )

    def _heartbeats(self, record: JobRecord) -> dict[str, Heartbeat]:
        """The last words of the instances in use; their clock is not asked, only whether they say something new."""
        generations = () if record.phase.over else (record.generation, record.upcoming)
        instances = [instance for generation in generations if generation for instance in generation.instances]
        at_s = self.monotonic()
        self._beats = {
            i: self._beats.get(i) or WatchedHeartbeat(layout.heartbeat_key(i), changed_at_s=at_s, moved_at_s=at_s)
            for i in instances
        }
        news = [watched.read(self.store, at_s) for watched in self._beats.values()]
        beats = {i: watched.beat for i, watched in self._beats.items() if watched.beat is not None}
        if beats and any(news):
            self._heard_at_s = at_s
        return beats

    def _new_events(self, record: JobRecord) -> tuple[Event, ...]:
        new = tuple(events_of(self.store, record, self._last_event))
        if new:
            self._last_event = new[-1].number
        return new


def follow(
    watch: JobWatch, *, sleep: Callable[[float], object], every_s: float, trouble: Callable[[str], None]
) -> Iterator[Look]:
    """Looks at a job until it is over, the last of which shows it over.

    A store that does not answer for a while is asked again, ever more slowly; `trouble` is told once for each while.
    One that has never answered is an error at once.
    """
    silent_since_s: float | None = None
    pause_s = every_s
    answered = False
    while True:
        try:
            look = watch.look()
        except CredentialsError:
            raise
        except StoreError as error:
            if not answered:
                raise
            if silent_since_s is None:
                silent_since_s = watch.monotonic()
                trouble(f"{error} Trying again; the job itself goes on.")
            elif watch.monotonic() - silent_since_s > PATIENCE_S:
                raise
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            answered, silent_since_s, pause_s = True, None, every_s
            yield look
            if look.over:
                return
        sleep(pause_s)
