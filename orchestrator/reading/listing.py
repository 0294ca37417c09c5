"""The status of the jobs in a store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.errors import ElasticError
from orchestrator.jobs.bucket import UnknownJob, job_names, load_record, outline_of
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.status import JobStatus, job_status
from orchestrator.store.protocol import Store

RECENT = timedelta(days=1)
"""A job that ended longer ago is shown only to who asks for all."""
_AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""


@dataclass(frozen=True)
class Listing:
    """The jobs that were asked for, newest first, and how many others there are."""

    shown: list[JobStatus]
    hidden: int
    left_out: list[ElasticError]
    """Why one cannot be read, which hides no other."""


def list_jobs(store: Store, now: datetime, wanted: Callable[[JobRecord], bool]) -> Listing:
    """The jobs whose record is wanted; of the others nothing but the record is read."""

    def status_of(job: str) -> JobStatus | ElasticError | None:
        try:
            record = load_record(store, job).value
            return job_status(outline_of(store, record), now) if wanted(record) else None
        except UnknownJob as error:  # a submit between its two writes
            return error
        except ElasticError as error:
            return ElasticError(f"{job} is left out: {error}")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(status_of, job_names(store)))
    shown = [status for status in found if isinstance(status, JobStatus)]
    left_out = [each for each in found if isinstance(each, ElasticError) and not isinstance(each, UnknownJob)]
    return Listing(sorted(shown, key=lambda status: status.created_at, reverse=True), found.count(None), left_out)
