"""The status of every job in a store."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from orchestrator.cli.prose import warn
from orchestrator.errors import ElasticError
from orchestrator.jobs.bucket import UnknownJob, job_names, load_state
from orchestrator.jobs.status import JobStatus, job_status
from orchestrator.store.protocol import Store

_AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""


def all_statuses(store: Store, now: datetime) -> list[JobStatus]:
    """The jobs, newest first. One that cannot be read is left out with a warning, so as not to hide the others."""

    def status_of(job: str) -> JobStatus | ElasticError:
        try:
            return job_status(load_state(store, job), now)
        except UnknownJob as error:  # a submit between its two writes
            return error
        except ElasticError as error:
            return ElasticError(f"{job} is left out: {error}")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(status_of, job_names(store)))
    for problem in found:
        if isinstance(problem, ElasticError) and not isinstance(problem, UnknownJob):
            warn(str(problem))
    statuses = [status for status in found if isinstance(status, JobStatus)]
    return sorted(statuses, key=lambda status: status.created_at, reverse=True)
