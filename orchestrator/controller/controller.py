"""One leader's work: every job that waits for it, observed, decided on and acted on until nothing is left to do."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from orchestrator.controller.act import Actor, Stale
from orchestrator.controller.collect import Collector
from orchestrator.controller.decide import decide
from orchestrator.controller.observe import Observer
from orchestrator.controller.spread import Spread, one_by_one
from orchestrator.controller.todo import Todo
from orchestrator.controller.trouble import concerns_all
from orchestrator.controller.watch import JobWatch
from orchestrator.errors import ElasticError
from orchestrator.fleets.protocol import Fleet
from orchestrator.jobs.events import Event
from orchestrator.jobs.head import Superseded
from orchestrator.jobs.pace import QUICK, Pace
from orchestrator.jobs.phases import GenerationPhase, IllegalTransition, JobPhase
from orchestrator.jobs.record import JobRecord
from orchestrator.spec.models import JobSpec
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Conflict, Store

ROUNDS_PER_TICK = 8
"""One decision can make the next possible at once (sealed, so assign); the rest waits for the next tick."""
QUIET_S = 5.0
"""A job that just trains, and of which nothing has changed, is decided on so often: no rule about time is finer."""

T = TypeVar("T")


class Controller:
    """The jobs of one store, for as long as this process leads."""

    def __init__(
        self,
        store: Store,
        fleets: Mapping[str, Fleet],
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        nonce: Nonce,
        still_leading: Callable[[], bool],
        log: Callable[[str], None],
        pace: Pace = QUICK,
        keep_leading: Callable[[], bool] | None = None,
        spread: Spread = one_by_one,
        writes: dict[str, dict[str, float]] | None = None,
    ) -> None:
        """`still_leading` may be asked by any thread, `keep_leading` (which may also renew the lease) by one alone.

        `writes`: per job, what this process has written of it, also in earlier leaderships (see `JobWatch.writes`).
        """
        self._store = store
        self._fleets = fleets
        self._now = now
        self._monotonic = monotonic
        self._still_leading = still_leading
        self._keep_leading = keep_leading or still_leading
        self._log = log
        self._spread = spread
        self._observer = Observer(store, fleets, monotonic)
        self._todo = Todo(store, monotonic, pace, log, self._each)
        self._actor = Actor(store, nonce, monotonic, still_leading, self._todo.drop, self._tell)
        self._collector = Collector(store, nonce, monotonic, still_leading, self._complain)
        self._watches: dict[str, JobWatch] = {}
        self._writes = {} if writes is None else writes
        self._unsubmitted: dict[str, int] = {}  # jobs without a record, and at which listing they had none
        self._complaints: dict[str, str] = {}
        self._is_busy = True

    def tick(self, epoch: int) -> int:
        """Look at every job once; returns how many are alive (not over, not paused, or still being cleaned up).

        Raises Deposed when a newer leader was seen, StoreError when the store is away.
        """
        if self._todo.refresh(busy=self._is_busy):
            jobs = [job for job in sorted(self._todo.jobs) if self._unsubmitted.get(job) != self._todo.listings]
            self._watches = {job: self._watch(job) for job in jobs}
            for job in set(self._writes).difference(jobs):  # another leader has settled it
                del self._writes[job]
            self._collector.begin_tick(jobs)
            self._look_at(jobs, epoch)
            alive = sum(map(self._is_alive, jobs))
        else:
            alive = len(self._watches) + 1  # not to see whether there is something to do is not to be idle
        self._is_busy = alive > 0
        return alive

    def hears_bell(self) -> bool:
        """Whether somebody rang since the last tick. Raises StoreError."""
        return self._todo.hears_bell()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is to be expected of any job that is alive but that it trains on."""
        return all(map(self._is_quiet, self._watches.values()))

    def _look_at(self, jobs: list[str], epoch: int) -> None:
        """Look after each job that can be: as long as this controller leads."""
        watches = self._watches
        if not self._each(self._load, [job for job in jobs if not watches[job].is_loaded]):
            return
        loaded = {job: watches[job] for job in jobs if watches[job].is_loaded}
        unseen = self._observer.ask_fleets(loaded.values(), self._complain, self._each)
        due = [job for job, watch in loaded.items() if job not in unseen or watch.fleet_trouble]
        self._each(lambda job: self._step(job, epoch), due)

    def _each(self, function: Callable[[T], object], items: Iterable[T], /) -> bool:
        return self._spread(function, items, self._keep_leading)

    def _is_alive(self, job: str) -> bool:
        """Whether there is more to do for a job, as far as is known: one that could not be read may be alive."""
        watch = self._watches.get(job)
        if watch is None:
            return False  # it is settled
        if watch.record.stored is None:
            return not watch.record.is_known
        record = watch.record.stored.value
        return bool(record.retired) or not (record.phase.over or record.phase is JobPhase.PAUSED)

    def _watch(self, job: str) -> JobWatch:
        """What is remembered of a job; nothing, where its name has been removed and submitted again."""
        mark, known = self._todo.jobs[job].mark, self._watches.get(job)
        if known is not None and known.mark == mark:
            return known
        return JobWatch.of(job, mark, self._writes.setdefault(job, {}))

    def _load(self, job: str) -> None:
        """Read what is not known yet of a job, where that can be done."""
        watch = self._watches[job]
        try:
            if not self._observer.load(watch):
                self._unsubmitted[job] = self._todo.listings  # look again when anybody has done anything
                self._turn_away(job)
        except ElasticError as error:
            if concerns_all(error):
                raise
            self._complain(job, str(error))

    def _turn_away(self, job: str) -> None:
        """Remove what was asked of a job that is neither there nor about to be submitted."""
        if self._todo.jobs[job].mark is None:
            for request in self._todo.waiting(job):
                self._todo.drop(job, request.id)
                self._log(f"{job}: {request.kind} by {request.by} was for a job that is no more")

    def _step(self, job: str, epoch: int) -> None:
        """Look after one job; where its fleet does not answer, only tell that."""
        watch = self._watches[job]
        try:
            if watch.fleet_trouble:
                self._round(watch, epoch)
            elif self._still_leading():
                self._look_after(watch, epoch)
        except (Conflict, Stale, Superseded) as error:
            watch.doubt()
            self._complain(job, f"somebody else acts on this job: {error}")
        except (ElasticError, IllegalTransition) as error:
            watch.doubt()
            if concerns_all(error):
                raise
            self._complain(job, str(error))  # one job's trouble is not another's
        else:
            if not watch.fleet_trouble:
                self._complaints.pop(job, None)

    def _look_after(self, watch: JobWatch, epoch: int) -> None:
        """Read what is new, then decide and act until nothing is left to do."""
        if not self._observer.load(watch):
            return
        if self._observer.read_news(watch, epoch) or self._todo.waiting(watch.job):
            watch.decided_at_s = None
        for _ in range(ROUNDS_PER_TICK):
            if self._is_quiet(watch) or not self._round(watch, epoch):
                break
        if watch.record.stored is not None and watch.spec is not None and self._still_leading():
            self._tidy_up(watch, watch.spec, watch.record.stored.value)

    def _tidy_up(self, watch: JobWatch, spec: JobSpec, record: JobRecord) -> None:
        """Remove what is not needed. The very last thing for a job is its mark: dying before costs a look."""
        if not _settled(record, watch):
            self._collector.collect_if_due(spec, record)
        elif not self._todo.waiting(watch.job) and self._collector.collect(spec, record):
            self._todo.settle(watch.job)
            self._watches.pop(watch.job, None)
            self._writes.pop(watch.job, None)

    def _is_quiet(self, watch: JobWatch) -> bool:
        """Whether nothing has changed since the last decision of a job for which nothing is due soon."""
        if watch.decided_at_s is None or watch.record.stored is None:
            return False
        record = watch.record.stored.value
        trains = record.generation is not None and record.generation.phase is GenerationPhase.TRAINING
        at_rest = record.upcoming is None and not record.retired
        waits = record.phase.over or record.phase is JobPhase.PAUSED
        return at_rest and (trains or waits) and self._since(watch.decided_at_s) < QUIET_S

    def _round(self, watch: JobWatch, epoch: int) -> bool:
        """One decision, carried out; whether anything was done."""
        if not self._still_leading():
            return False
        seen, stored = self._observer.observe(watch, epoch, self._todo.waiting(watch.job))
        decision = decide(seen, self._now())
        done = self._actor.act(seen, stored, decision, watch, self._fleets[seen.spec.resources.fleet])
        watch.decided_at_s = None if done else self._monotonic()
        return done

    def _since(self, at_s: float) -> float:
        return self._monotonic() - at_s

    def _tell(self, job: str, event: Event) -> None:
        self._log(f"{job} g{event.generation} {event.kind}: {event.message}")

    def _complain(self, job: str, message: str) -> None:
        if self._complaints.get(job) != message:
            self._complaints[job] = message
            self._log(f"{job}: {message}")


def _settled(record: JobRecord, watch: JobWatch) -> bool:
    """Whether nothing can ever be due for a job again: it need not be looked at any more."""
    told = all(event.number <= watch.events_flushed for event in record.outbox)
    return record.phase.over and told and not record.retired and not record.uses
