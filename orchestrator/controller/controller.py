"""One leader's work: every job, observed, decided on and acted on until nothing is left to do."""

from collections.abc import Callable, Mapping
from datetime import datetime

from orchestrator.controller.act import Actor, Stale
from orchestrator.controller.decide import decide
from orchestrator.controller.observe import JobWatch, Observer
from orchestrator.errors import ElasticError
from orchestrator.fleets.protocol import Fleet
from orchestrator.jobs.bucket import job_names
from orchestrator.jobs.events import Event
from orchestrator.jobs.head import Superseded
from orchestrator.jobs.phases import IllegalTransition, JobPhase
from orchestrator.jobs.record import JobRecord
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Conflict, Store

ROUNDS_PER_TICK = 8
"""One decision can make the next possible at once (sealed, so assign); the rest waits for the next tick."""


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
    ) -> None:
        self._store = store
        self._fleets = fleets
        self._now = now
        self._still_leading = still_leading
        self._log = log
        self._observer = Observer(store, fleets, monotonic)
        self._actor = Actor(store, nonce, self._tell)
        self._watches: dict[str, JobWatch] = {}
        self._settled: set[str] = set()
        self._complaints: dict[str, str] = {}

    def tick(self, epoch: int) -> int:
        """Look at every job once; returns how many are alive (not over, not paused, or still being cleaned up).

        Raises Deposed when a newer leader was seen.
        """
        alive = 0
        names = set(job_names(self._store))
        self._settled &= names  # one that was removed may come again
        for job in sorted(names):
            if job in self._settled:
                continue
            if not self._still_leading():
                break
            alive += self._step(job, epoch)
        return alive

    def _step(self, job: str, epoch: int) -> bool:
        watch = self._watches.setdefault(job, JobWatch.of(job))
        try:
            for _ in range(ROUNDS_PER_TICK):
                if not self._round(job, watch, epoch):
                    break
        except (Conflict, Stale, Superseded) as error:
            self._complain(job, f"somebody else acts on this job: {error}")
        except (ElasticError, IllegalTransition) as error:
            self._complain(job, str(error))  # one job's trouble is not another's
        else:
            self._complaints.pop(job, None)
        record = watch.record.stored.value if watch.record.stored else None
        if record is not None and _settled(record, watch):
            self._settled.add(job)
            del self._watches[job]
        return record is not None and (
            bool(record.retired) or not (record.phase.over or record.phase is JobPhase.PAUSED)
        )

    def _round(self, job: str, watch: JobWatch, epoch: int) -> bool:
        observed = self._observer.observe(job, watch, epoch)
        if observed is None or not self._still_leading():
            return False
        seen, stored = observed
        decision = decide(seen, self._now())
        return self._actor.act(seen, stored, decision, watch, self._fleets[seen.spec.resources.fleet])

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
