"""Everything that costs money now: what the records of jobs tell, and what fleets have that no job knows of."""

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from orchestrator.errors import CredentialsError, ElasticError
from orchestrator.fleets.owned import Holdings, Owned
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_heartbeat
from orchestrator.jobs.instances import Heartbeat
from orchestrator.jobs.record import InstanceUse, JobRecord
from orchestrator.store import document
from orchestrator.store.protocol import Store, StoreError

T = TypeVar("T")

_AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""

ORPHAN = "orphan"
"""The state of what belongs to no job."""


@dataclass(frozen=True)
class PaidInstance:
    """An instance that costs money, as far as it is known."""

    instance: str
    job: str
    """Empty: it belongs to none."""
    state: str
    """What its agent says; before that 'launching'; 'ending' when the job needs it no more; 'orphan' without a job."""
    instance_type: str
    zone: str
    market: str
    usd_per_hour: float | None
    since: datetime
    lived_s: float
    cost_usd: float | None
    left_s: float | None
    """How long it may still live before it ends itself; None: as long as its job, or nobody knows."""
    id: str = ""
    """What its fleet calls it, where that is another name."""
    where: str = ""

    def as_data(self) -> dict[str, Any]:
        """For -o json."""
        return asdict(self) | {"since": self.since.isoformat(), "orphan": self.state == ORPHAN}


@dataclass(frozen=True)
class Orphan:
    """What belongs to no job, and who can end it."""

    owned: Owned
    holdings: Holdings


@dataclass(frozen=True)
class Orphans:
    """What fleets have that belongs to no job, as far as that can be told."""

    found: list[Orphan]
    silent: list[ElasticError]
    """Of fleets that cannot tell what they have."""
    unreadable: dict[str, StoreError]
    """By job: why its record cannot be read. What is its own nobody knows, so nothing of it is an orphan."""


def paid_instances(
    store: Store, orphans: Iterable[Orphan], now: datetime
) -> tuple[list[PaidInstance], dict[str, StoreError]]:
    """All that cost money, those of one job together, orphans last; and the jobs whose instances nobody can tell.

    `orphans` were looked for before.
    """
    jobs = [entry.key.removeprefix(layout.TODO_JOBS) for entry in store.list(layout.TODO_JOBS)]
    read = _each(jobs, lambda job: _of_job(store, job, now))
    rows = [row for found in read.values() if not isinstance(found, StoreError) for row in found]
    known = {row.instance for row in rows}
    rest = [orphan.owned for orphan in orphans if orphan.owned.instance not in known]
    paid = sorted(rows, key=lambda row: (row.job, row.instance)) + [_of_orphan(owned, now) for owned in rest]
    return paid, {job: found for job, found in read.items() if isinstance(found, StoreError)}


def find_orphans(store: Store, holdings: Iterable[Holdings]) -> Orphans:
    """What fleets have that belongs to no job: it is not there, or over, or does not know of it. And who cannot tell.

    Fleets are asked before the records are read: what is launched later than that is in no answer, and what was
    launched before is in the record, where an instance is named before it is launched.
    """
    owned: list[Orphan] = []
    silent: list[ElasticError] = []
    for each in holdings:
        try:
            owned += [Orphan(one, each) for one in each.owned()]
        except ElasticError as error:
            silent.append(error)
    records = _each({layout.job_of(one.owned.instance) for one in owned} - {""}, lambda job: _record(store, job))
    unreadable = {job: found for job, found in records.items() if isinstance(found, StoreError)}
    orphans = []
    for one in owned:
        record = records.get(layout.job_of(one.owned.instance))
        if not isinstance(record, StoreError) and not _belongs(one.owned.instance, record):
            orphans.append(one)
    return Orphans(orphans, silent, unreadable)


def _each(jobs: Collection[str], read: Callable[[str], T]) -> dict[str, T | StoreError]:
    """What is read of each job, several at once: one that cannot be read keeps no other from it."""

    def attempt(job: str) -> T | StoreError:
        try:
            return read(job)
        except CredentialsError:
            raise
        except StoreError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(jobs, pool.map(attempt, jobs), strict=True))


def _belongs(instance: str, record: JobRecord | None) -> bool:
    """Whether a job has work for it, or sees to its end."""
    if record is None or record.phase.over:
        return False
    return record.wants(instance) or instance in record.retired or instance in {use.instance for use in record.uses}


def _record(store: Store, job: str) -> JobRecord | None:
    found = document.load(store, layout.record_key(job), JobRecord)
    return None if found is None else found.value


def _of_job(store: Store, job: str, now: datetime) -> list[PaidInstance]:
    record = _record(store, job)
    return [] if record is None else list(of_record(record, partial(load_heartbeat, store), now))


def of_record(record: JobRecord, heard: Callable[[str], Heartbeat | None], now: datetime) -> Iterator[PaidInstance]:
    """The instances that a job pays for; `heard` gives the last word of each."""
    for use in record.uses:
        lived_s = use.paid_s(record.lived_s(use, now))
        yield PaidInstance(
            instance=use.instance,
            job=record.name,
            state=_state(record, use, heard(use.instance)),
            instance_type=use.instance_type,
            zone=use.zone,
            market=use.market,
            usd_per_hour=use.usd_per_hour,
            since=use.since,
            lived_s=round(lived_s, 1),
            cost_usd=round(use.cost_usd(lived_s), 6),
            left_s=None if use.allowance_s is None else round(max(0.0, use.allowance_s - lived_s), 1),
        )


def _state(record: JobRecord, use: InstanceUse, beat: Heartbeat | None) -> str:
    if use.instance in record.retired or record.phase.over:
        return "ending"
    if beat is not None:
        return str(beat.state)
    return "starting" if use.shown else "launching"


def _of_orphan(owned: Owned, now: datetime) -> PaidInstance:
    lived_s = max(0.0, (now - owned.since).total_seconds())
    return PaidInstance(
        instance=owned.instance or owned.id,
        job="",
        state=ORPHAN,
        instance_type=owned.instance_type,
        zone=owned.zone,
        market=owned.market,
        usd_per_hour=owned.usd_per_hour,
        since=owned.since,
        lived_s=round(lived_s, 1),
        cost_usd=None if owned.usd_per_hour is None else round(owned.usd_per_hour * lived_s / 3600, 6),
        left_s=None,
        id=owned.id,
        where=owned.where,
    )


def usd_per_hour(rows: Iterable[PaidInstance]) -> float:
    """What they cost an hour together, those left out of which nobody knows."""
    return sum(row.usd_per_hour or 0.0 for row in rows)
