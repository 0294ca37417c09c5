"""What waits for the controller: the jobs to look after, and what people have asked, all by one listing.

Listed when the bell was rung, and from time to time, for a ringer may die before it rings. What jobs are over costs
nothing here: their marks are gone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.controller.spread import Each, one_by_one
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

    def __init__(
        self,
        store: Store,
        monotonic: Callable[[], float],
        pace: Pace,
        log: Callable[[str], None],
        each: Each = one_by_one,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._pace = pace
        self._log = log
        self._each = each
        self._ear = Ear(store)
        self._listed_at_s: float | None = None
        self._is_due = True
        self._requests: dict[str, Request] = {}  # by their keys: read once
        self._complaints: dict[str, str] = {}  # by the keys of the requests that could not be read
        self.jobs: dict[str, Waiting] = {}
        self.listings = 0
        """How often it was listed: what cannot be known without asking again is asked once a listing."""

    def refresh(self, *, busy: bool) -> bool:
        """List what waits, if it is time or somebody has rung.

        False when leadership was lost meanwhile. Then, and when it raises StoreError, it stays due; what was read by
        then need not be read again.
        """
        now_s, every_s = self._monotonic(), self._pace.scan_s if busy else self._pace.idle_scan_s
        # before the listing: who leaves something meanwhile rings again
        if not self._each(Todo.hears_bell, [self]):
            return False
        if self._listed_at_s is None or now_s - self._listed_at_s >= every_s:
            self._is_due = True
        if self._is_due:
            listed: list[Entry] = []
            if not self._each(lambda prefix: listed.extend(self._store.list(prefix)), [layout.TODO]):
                return False
            requests = [entry for entry in listed if _job_of_request(entry.key) is not None]
            if not self._each(self._read, [entry for entry in requests if entry.key not in self._requests]):
                return False
            self._take(listed, requests)
            self.listings += 1
            self._listed_at_s, self._is_due = now_s, False
        return True

    def hears_bell(self) -> bool:
        """Whether somebody has rung since it last listened; then it is due."""
        rung = self._ear.heard()
        self._is_due = self._is_due or rung
        return rung

    def waiting(self, job: str) -> tuple[Request, ...]:
        """What people have asked of a job, oldest first."""
        found = self.jobs.get(job)
        return tuple(request for _, request in sorted(found.requests.items())) if found and found.requests else ()

    def drop(self, job: str, request: str) -> None:
        """Remove a request that was carried out."""
        key = layout.request_key(job, request)
        self._store.delete(key)
        self._requests.pop(key, None)
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

    def _take(self, listed: list[Entry], requests: list[Entry]) -> None:
        """What was listed and read is what waits now."""
        jobs: dict[str, Waiting] = {}
        for entry in listed:
            job = entry.key.removeprefix(layout.TODO_JOBS)
            if job != entry.key and is_job_name(job):
                jobs[job] = Waiting(entry.etag)
        known, self._requests = self._requests, {}
        for entry in requests:
            whose, request = _job_of_request(entry.key), known.get(entry.key)
            if whose is not None and request is not None:
                jobs.setdefault(whose, Waiting()).requests[request.id] = request
                self._requests[entry.key] = request
        keys = {entry.key for entry in requests}
        self._complaints = {key: told for key, told in self._complaints.items() if key in keys}
        self.jobs = jobs

    def _read(self, entry: Entry) -> None:
        """Read a request that was listed. One that is none is removed; one that may not be read waits."""
        try:
            found = self._store.get(entry.key)
            if found is None:
                return
            try:
                name = entry.key.rpartition("/")[2].removesuffix(".json")
                self._requests[entry.key] = parse_request(found.body, name)
            except ValueError:
                self._store.delete(entry.key)
                self._log(f"{entry.key} is no request that this version can read: removed")
        except StoreError as error:
            if concerns_all(error):
                raise
            if self._complaints.get(entry.key) != str(error):
                self._complaints[entry.key] = str(error)
                self._log(f"a request cannot be read and waits: {error}")


def _job_of_request(key: str) -> str | None:
    """The job whose request lies under a key of `todo/`."""
    job, slash, _ = key.removeprefix(layout.TODO_REQUESTS).partition("/")
    return job if slash and key.startswith(layout.TODO_REQUESTS) and is_job_name(job) else None
