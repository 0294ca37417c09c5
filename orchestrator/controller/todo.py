"""What waits for the controller: the jobs to look after, and what people have asked, all by one listing.

Listed when the bell was rung, and from time to time, for a ringer may die before it rings. What jobs are over costs
nothing here: their marks are gone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.controller.trouble import concerns_all
from orchestrator.jobs import layout
from orchestrator.jobs.bell import Ear
from orchestrator.jobs.pace import Pace
from orchestrator.jobs.requests import Request, parse_request
from orchestrator.spec.names import is_job_name
from orchestrator.store.protocol import Conflict, Entry, Store, StoreError


@dataclass
class Waiting:
    """What waits for one job."""

    mark: str | None = None
    """The etag of its mark; None: it has none, and only its requests are to be answered."""
    requests: dict[str, Request] = field(default_factory=dict)
    """By their ids, which sort by time."""


class Todo:
    """One leader's view of `todo/`."""

    def __init__(self, store: Store, monotonic: Callable[[], float], pace: Pace, log: Callable[[str], None]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._pace = pace
        self._log = log
        self._ear = Ear(store)
        self._listed_at_s: float | None = None
        self._is_due = True
        self._complaints: dict[str, str] = {}  # by the keys of the requests that could not be read
        self.jobs: dict[str, Waiting] = {}
        self.listings = 0
        """How often it was listed: what cannot be known without asking again is asked once a listing."""

    def refresh(self, *, busy: bool) -> None:
        """List what waits, if it is time or somebody has rung. Raises StoreError; then it stays due."""
        now_s, every_s = self._monotonic(), self._pace.scan_s if busy else self._pace.idle_scan_s
        rung = self._ear.heard()  # before the listing: who leaves something meanwhile rings again
        if rung or self._listed_at_s is None or now_s - self._listed_at_s >= every_s:
            self._is_due = True
        if self._is_due:
            self.jobs = self._listed()
            self.listings += 1
            self._listed_at_s, self._is_due = now_s, False

    def waiting(self, job: str) -> tuple[Request, ...]:
        """What people have asked of a job, oldest first."""
        found = self.jobs.get(job)
        return tuple(request for _, request in sorted(found.requests.items())) if found and found.requests else ()

    def drop(self, job: str, request: str) -> None:
        """Remove a request that was carried out."""
        self._store.delete(layout.request_key(job, request))
        if job in self.jobs:
            self.jobs[job].requests.pop(request, None)

    def settle(self, job: str) -> None:
        """Nothing can ever be due for this job: its mark goes, but for one that was made anew meanwhile."""
        waiting = self.jobs.get(job)
        if waiting is not None and waiting.mark is not None:
            try:
                self._store.delete(layout.todo_key(job), waiting.mark)
            except Conflict:
                self._is_due = True  # a job of the same name was submitted
        self.jobs.pop(job, None)

    def _listed(self) -> dict[str, Waiting]:
        jobs: dict[str, Waiting] = {}
        before, self._complaints = self._complaints, {}
        for entry in self._store.list(layout.TODO):
            if entry.key.startswith(layout.TODO_JOBS):
                job = entry.key.removeprefix(layout.TODO_JOBS)
                if is_job_name(job):
                    jobs.setdefault(job, Waiting()).mark = entry.etag
            elif entry.key.startswith(layout.TODO_REQUESTS):
                job, _, name = entry.key.removeprefix(layout.TODO_REQUESTS).partition("/")
                if not is_job_name(job):
                    continue
                try:
                    request = self._request(job, name.removesuffix(".json"), entry)
                except StoreError as error:
                    if concerns_all(error):
                        raise
                    self._complaints[entry.key] = str(error)
                    if before.get(entry.key) != str(error):
                        self._log(f"{job}: a request cannot be read and waits: {error}")
                    continue
                if request is not None:
                    jobs.setdefault(job, Waiting()).requests[request.id] = request
        return jobs

    def _request(self, job: str, request: str, entry: Entry) -> Request | None:
        """A request that was listed; read once. One that cannot be read asks for nothing and is removed."""
        known = self.jobs.get(job)
        if known is not None and request in known.requests:
            return known.requests[request]
        found = self._store.get(entry.key)
        if found is None:
            return None
        try:
            return parse_request(found.body, request)
        except ValueError:
            self._log(f"{job}: {entry.key} is no request that this version can read: removed")
            self._store.delete(entry.key)
            return None
