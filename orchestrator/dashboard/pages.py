"""What the pages show, shared by all that are open: each thing is read once, when somebody asks, and kept a moment."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from orchestrator.dashboard.job_page import JobPage, JobPageReader
from orchestrator.dashboard.kept import Kept, Reading
from orchestrator.dashboard.overview import Overview, OverviewReader
from orchestrator.dashboard.watched_job import WatchedJob
from orchestrator.jobs.bucket import UnknownJob
from orchestrator.jobs.pace import pace_of
from orchestrator.store.protocol import Store

UNBILLED_FRESH_S = 1.0
"""Where nobody pays for requests."""
UNBILLED_LIST_S = 2.0
MOST_JOB_PAGES = 16
"""What is kept for more pages than that is forgotten, and read anew if one of them is still open."""


class Pages:
    """The overview, and the page of each job that was asked for lately. Safe to use from several threads."""

    def __init__(self, store: Store, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self.store = store
        self.now = now
        self._monotonic = monotonic
        pace = pace_of(store.billed)
        self._fresh_s = pace.tick_s if store.billed else UNBILLED_FRESH_S
        self._grown_every_s = pace.ship_logs_s
        self._lock = threading.Lock()
        self._watched: dict[str, WatchedJob] = {}
        self._job_pages: OrderedDict[str, Kept[JobPage]] = OrderedDict()
        list_every_s = pace.ship_logs_s if store.billed else UNBILLED_LIST_S
        reader = OverviewReader(store, self._watch, list_every_s, now, monotonic)
        self._overview = Kept(reader.read, self._fresh_s, monotonic)

    def overview(self, patience_s: float) -> Reading[Overview]:
        """All jobs."""
        return self._overview.get(patience_s)

    def job(self, name: str, patience_s: float) -> Reading[JobPage]:
        """One job; whether there is such a job is only known from its reading."""
        watched = self._watch(name)
        with self._lock:
            if name not in self._job_pages:
                reader = JobPageReader(self.store, watched, self._grown_every_s, self.now, self._monotonic)
                self._job_pages[name] = Kept(reader.read, self._fresh_s, self._monotonic)
            self._job_pages.move_to_end(name)
            while len(self._job_pages) > MOST_JOB_PAGES:
                self._job_pages.popitem(last=False)
            page = self._job_pages[name]
        reading = page.get(patience_s)
        if isinstance(reading.error, UnknownJob):
            with self._lock:
                self._job_pages.pop(name, None)
                self._watched.pop(name, None)
        return reading

    def _watch(self, name: str) -> WatchedJob:
        with self._lock:
            if name not in self._watched:
                self._watched[name] = WatchedJob(self.store, name, self._fresh_s, self.now, self._monotonic)
            return self._watched[name]
