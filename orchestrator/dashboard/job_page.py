"""One job in full."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.controller.decisions import KeptDecision, load_decision
from orchestrator.dashboard.at_once import at_once
from orchestrator.dashboard.charts import Charts, charts
from orchestrator.dashboard.job_row import JobRow, Shown, ShownEvent, job_row
from orchestrator.dashboard.log_tail import Log, LogTail
from orchestrator.dashboard.progress import Points, ProgressCurves
from orchestrator.dashboard.utilization import UtilizationHistory
from orchestrator.dashboard.watched_job import WatchedJob
from orchestrator.jobs.bucket import JobState
from orchestrator.jobs.events import Event
from orchestrator.jobs.instances import Heartbeat
from orchestrator.jobs.status import JobStatus, job_status
from orchestrator.reading import text
from orchestrator.reading.as_yaml import to_yaml
from orchestrator.reading.costs import By, charges_of, costs_by
from orchestrator.reading.following import events_of
from orchestrator.reading.job_facts import facts, wide_facts
from orchestrator.reading.next_steps import next_steps
from orchestrator.reading.standing import standing
from orchestrator.spec.models import JobSpec
from orchestrator.store.protocol import Store, StoreError

MOST_EVENTS = 300
"""Of a longer story the last ones are shown; `elastic events` has all."""
MOST_DECISIONS = 60
"""So many of the last ones are looked into for how busy the workers were."""
HIDDEN = "(not shown)"


class Fact(Shown):
    """Something that is known of the job, by its name."""

    name: str
    value: str


class CostRow(Shown):
    """What instances of one type have cost."""

    name: str
    hours: str
    cost: str
    saved: str


class Command(Shown):
    """What may be typed next, and what it is good for."""

    command: str
    what: str


class JobPage(Shown):
    """All that the page of a job shows."""

    job: JobRow
    facts: list[Fact]
    why: list[Fact]
    """Why it is as it is now: what `elastic explain` ends with."""
    charts: Charts
    events: list[ShownEvent]
    """The newest first."""
    earlier_events: int
    """How many there are before them."""
    log: Log
    costs: list[CostRow]
    yaml: str
    commands: list[Command]


class JobPageReader:
    """Reads what the page of one job shows; called by one thread at a time."""

    def __init__(
        self,
        store: Store,
        job: WatchedJob,
        grown_every_s: float,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._job = job
        self._grown_every_s = grown_every_s
        self._now = now
        self._monotonic = monotonic
        self._story: _Story | None = None

    def read(self) -> JobPage:
        """All as it is now. Raises UnknownJob, StoreError."""
        state = self._job.state()
        if self._story is None or self._story.begin != state.record.created_at:  # the first look, or another job
            self._story = _Story(self._store, self._job.name, state.record.created_at)
        self._story.read(state, self._monotonic(), self._grown_every_s)
        return job_page(state, self._story, self._now())


class _Story:
    """What a job has been up to, read on from where the last read has ended."""

    def __init__(self, store: Store, job: str, begin: datetime) -> None:
        self.begin = begin
        self.events: list[Event] = []
        self.busy = UtilizationHistory()
        self.log = Log(generation=None, lines=[])
        self.progress: Mapping[str, Points] = {}
        self._store = store
        self._job = job
        self._log_tail = LogTail(store, job)
        self._curves = ProgressCurves(store, job)
        self._grown_at_s = float("-inf")
        self._has_grown_up = False

    def read(self, state: JobState, now_s: float, grown_every_s: float) -> None:
        """What is new: events with each read; log and progress as often as an agent brings any."""
        known = self.events[-1].number if self.events else max(0, state.record.last_event - MOST_EVENTS)
        new = list(events_of(self._store, state.record, after=known))
        self.events = [*self.events, *new][-MOST_EVENTS:]
        for beat in (*self._beats_seen(new), *state.heartbeats.values()):
            self.busy.add(beat)
        if not self._has_grown_up and now_s - self._grown_at_s >= grown_every_s:
            self.log, self.progress = self._log_tail.read(), self._curves.read()
            self._grown_at_s, self._has_grown_up = now_s, state.record.phase.over

    def _beats_seen(self, new: Sequence[Event]) -> Iterator[Heartbeat]:
        """What decisions saw of how busy the workers were."""
        decisions = dict.fromkeys((event.decision, event.epoch) for event in new if event.decision is not None)
        for kept in at_once(self._decision, list(decisions)[-MOST_DECISIONS:]):
            for view in kept.instances.values() if kept is not None else ():
                if view.heartbeat is not None:
                    yield view.heartbeat

    def _decision(self, number_and_epoch: tuple[int, int]) -> KeptDecision | None:
        """One that cannot be read leaves a gap in a curve, and no more."""
        try:
            return load_decision(self._store, self._job, *number_and_epoch)
        except StoreError:
            return None


def job_page(state: JobState, story: _Story, now: datetime) -> JobPage:
    """What the page of a job shows of what was read."""
    status, events = job_status(state, now), story.events
    own_program = state.spec.training is None
    return JobPage(
        job=job_row(state, status, events[-1] if events else None),
        facts=_facts(state, status),
        why=[Fact(name=each.question, value=each.answer) for each in standing(state, now)],
        charts=charts(state, events, story.progress, story.busy.points(), now),
        events=[ShownEvent.of(event) for event in reversed(events)],
        earlier_events=events[0].number - 1 if events else 0,
        log=story.log,
        costs=_costs(state, now),
        yaml=to_yaml(without_secrets(state.spec)),
        commands=[Command(command=command, what=what) for command, what in _commands(status, own_program)],
    )


def without_secrets(spec: JobSpec) -> dict[str, Any]:
    """The job's values, but for those of its environment: a page is seen by more eyes than a file."""
    values: dict[str, Any] = spec.model_dump(mode="json", exclude_none=True)
    environment = values.get("resources", {}).get("env", {})
    environment.update(dict.fromkeys(environment, HIDDEN))
    return values


def _facts(state: JobState, status: JobStatus) -> list[Fact]:
    return [Fact(name=name, value=value) for name, value in (*facts(state, status), *wide_facts(state, status))]


def _costs(state: JobState, now: datetime) -> list[CostRow]:
    charges = charges_of(state.record, now)
    return [
        CostRow(
            name=cost.name,
            hours=f"{cost.hours:,.2f}",
            cost=text.usd(cost.usd),
            saved=text.NOTHING if cost.saved_usd is None else text.usd(cost.saved_usd),
        )
        for cost in costs_by(By.TYPE, ((state.record.name, charge) for charge in charges))
    ]


def _commands(status: JobStatus, own_program: bool) -> list[tuple[str, str]]:
    more = [
        (f"elastic logs {status.name}{'' if status.phase.over else ' -f'}", "all that the first worker printed"),
        (f"elastic explain {status.name}", "each decision, and why nothing else was done"),
    ]
    return list(dict([*next_steps(status, trained=not own_program), *more]).items())
