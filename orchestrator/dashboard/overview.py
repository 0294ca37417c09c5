"""All jobs of a store, who looks after them, and what costs money now."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from orchestrator.dashboard.at_once import at_once
from orchestrator.dashboard.job_row import JobRow, Shown, job_row
from orchestrator.dashboard.watched_job import WatchedJob
from orchestrator.errors import CredentialsError, ElasticError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import JobState, UnknownJob, job_names
from orchestrator.jobs.events import Event
from orchestrator.jobs.status import job_status
from orchestrator.reading import text
from orchestrator.reading.controller_watch import NOBODY, ControllerWatch
from orchestrator.reading.costs import charges_of
from orchestrator.reading.listing import RECENT
from orchestrator.reading.paid_instances import PaidInstance, of_record, usd_per_hour
from orchestrator.store.protocol import Store


class Controller(Shown):
    """Who looks after the jobs."""

    alive: bool
    words: str
    detail: str
    heard_at: datetime | None
    """When its word was first seen as it is, by this machine's clock."""


class InstanceRow(Shown):
    """An instance that costs money, or would if it were rented."""

    instance: str
    job: str
    state: str
    type: str
    market: str
    zone: str
    usd_per_hour: str
    cost: str
    lived: str
    left: str


class Spend(Shown):
    """Money, in words."""

    per_hour: str
    today: str
    """Of the present day in UTC, as days are counted in a job's record."""
    total: str


class Overview(Shown):
    """The first page."""

    store: str
    controller: Controller
    jobs: list[JobRow]
    """Those that run first."""
    older: int
    """How many that ended more than a day ago are not among them."""
    left_out: list[str]
    instances: list[InstanceRow]
    instances_words: str
    spend: Spend


@dataclass(frozen=True)
class Seen:
    """A job that could be read."""

    state: JobState
    last: Event | None


class OverviewReader:
    """Reads what the first page shows; called by one thread at a time."""

    def __init__(
        self,
        store: Store,
        job: Callable[[str], WatchedJob],
        list_every_s: float,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._job = job
        self._list_every_s = list_every_s
        self._now = now
        self._monotonic = monotonic
        self._controller = ControllerWatch(store, monotonic)
        self._listed_at_s = float("-inf")
        self._names: list[str] = []
        self._marked: frozenset[str] = frozenset()
        self._seen: dict[str, Seen] = {}
        self._left_out: dict[str, str] = {}

    def read(self) -> Overview:
        """All as it is now. Raises StoreError."""
        self._list()
        due = [name for name in self._names if self._may_have_changed(name)]
        controller = self._read_controller()
        at_once(self._look, due)
        seen = [self._seen[name] for name in self._names if name in self._seen]
        return overview(self._store.url, controller, seen, list(self._left_out.values()), self._now())

    def _list(self) -> None:
        if self._monotonic() - self._listed_at_s < self._list_every_s:
            return
        at_s = self._monotonic()
        self._names = list(job_names(self._store))
        marks = self._store.list(layout.TODO_JOBS)
        self._marked = frozenset(entry.key.removeprefix(layout.TODO_JOBS) for entry in marks)
        self._seen = {name: seen for name, seen in self._seen.items() if name in self._names}
        self._listed_at_s = at_s

    def _may_have_changed(self, name: str) -> bool:
        """A job for which nothing is due any more stays as it was when it was read over."""
        return name in self._marked or name not in self._seen or not self._seen[name].state.record.phase.over

    def _look(self, name: str) -> None:
        """Read one job; one that cannot be read hides no other."""
        job = self._job(name)
        try:
            self._seen[name] = Seen(job.state(), job.last_event())
            self._left_out.pop(name, None)
        except CredentialsError:
            raise
        except UnknownJob:  # removed meanwhile, or a submit between its two writes
            self._seen.pop(name, None)
        except ElasticError as error:
            self._left_out[name] = f"{name} is left out: {error}"

    def _read_controller(self) -> Controller:
        alive = self._controller.alive()
        lease, silent_s = self._controller.lease, self._monotonic() - self._controller.renewed_at_s
        if lease is None:
            return Controller(alive=False, words=NOBODY, detail="", heard_at=None)
        who = f"{lease.owner.label}, pid {lease.owner.pid}, epoch {lease.epoch}"
        heard_at = (self._now() - timedelta(seconds=silent_s)).replace(microsecond=0)
        return Controller(alive=alive, words=who if alive else NOBODY, detail="" if alive else who, heard_at=heard_at)


def overview(url: str, controller: Controller, seen: Sequence[Seen], left_out: list[str], now: datetime) -> Overview:
    """What the first page shows of what was read. Pure."""
    paid = [row for each in seen for row in of_record(each.state.record, each.state.heartbeats.get, now)]
    rows = [job_row(each.state, job_status(each.state, now), each.last) for each in sorted(seen, key=_running_first)]
    return Overview(
        store=url,
        controller=controller,
        jobs=rows,
        older=0,
        left_out=left_out,
        instances=[_instance(row) for row in paid],
        instances_words=_instances_words(paid),
        spend=_spend(paid, (each.state for each in seen), now),
    )


def without_older(whole: Overview, now: datetime) -> Overview:
    """The same without the jobs that ended more than a day ago, which are only counted."""
    recent = [row for row in whole.jobs if row.ended_at is None or now - row.ended_at < RECENT]
    return whole.model_copy(update={"jobs": recent, "older": len(whole.jobs) - len(recent)})


def _instances_words(paid: Sequence[PaidInstance]) -> str:
    if not paid:
        return "No instance runs."
    return f"{text.count(len(paid), 'instance')}, {text.usd(usd_per_hour(paid))} an hour"


def _running_first(each: Seen) -> tuple[bool, bool, float]:
    """Those that run, then those that wait, then what is over; of each the newest first."""
    record = each.state.record
    since = record.ended_at or record.created_at
    return record.phase.over, record.phase != "running", -since.timestamp()


def _instance(row: PaidInstance) -> InstanceRow:
    return InstanceRow(
        instance=row.instance,
        job=row.job,
        state=row.state,
        type=row.instance_type or text.NOTHING,
        market=row.market.replace("_", "-") if row.usd_per_hour else text.NOTHING,
        zone=row.zone or text.NOTHING,
        usd_per_hour=text.NOTHING if row.usd_per_hour is None else text.usd(row.usd_per_hour),
        cost=text.NOTHING if row.cost_usd is None else text.usd(row.cost_usd),
        lived=text.duration(row.lived_s),
        left=text.duration(row.left_s),
    )


def _spend(paid: Sequence[PaidInstance], states: Iterable[JobState], now: datetime) -> Spend:
    charges = [charge for state in states for charge in charges_of(state.record, now)]
    today = now.astimezone(UTC).date()
    return Spend(
        per_hour=text.usd(usd_per_hour(paid)),
        today=text.usd(sum(charge.usd for charge in charges if charge.day == today)),
        total=text.usd(sum(charge.usd for charge in charges)),
    )
