"""Invariants of what people asked for and were granted: not that it is told, but that it is done.

- A job that was granted a cancel ends cancelled, and no other job does.
- From a granted pause until a granted resume, nothing trains that is not being drained, and nothing is being prepared.
- After a granted resize every generation that starts has that size, until another resize.
"""

from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.simulator.violation import Violation

_AT_WORK = (GenerationPhase.STARTING, GenerationPhase.TRAINING)


@dataclass
class Wishes:
    """What a job's people were granted, by its record alone."""

    sizes: tuple[int, ...]
    """How many workers each rung has."""
    cancelled: bool = False
    paused: bool = False
    workers: int | None = None
    generation: int = 0
    """The last that started."""

    def record_written(self, by: str, job: str, new: dict[str, Any]) -> None:
        """A new version of the record: what it grants, and whether it does what was granted. Raises Violation."""
        for event in new["outbox"]:
            if event["kind"] == EventKind.REQUESTED:
                self._granted(event["inputs"])
        phase = JobPhase(new["phase"])
        if phase.over and (phase is JobPhase.CANCELLED) is not self.cancelled:
            asked = "was" if self.cancelled else "was not"
            raise Violation("a granted cancel is carried out", f"{by}: {job}, which {asked} cancelled, is {phase}")
        current = new["generation"]
        if self.paused and not phase.over:
            self._check_pauses(by, job, current, new["upcoming"])
        if current is not None and current["number"] != self.generation:
            self.generation = current["number"]
            self._check_size(by, job, self.sizes[current["rung"]])

    def _granted(self, inputs: dict[str, Any]) -> None:
        asked = inputs["asked"]
        if asked == "resize":
            self.workers = inputs["workers"]
        elif asked == "cancel":
            self.cancelled = True
        else:
            self.paused = asked == "pause"

    @staticmethod
    def _check_pauses(by: str, job: str, current: dict[str, Any] | None, upcoming: dict[str, Any] | None) -> None:
        if upcoming is not None or (current is not None and current["phase"] in _AT_WORK):
            detail = f"{by}: {job} goes on with {current and current['phase']}, {upcoming and upcoming['phase']}"
            raise Violation("a granted pause is carried out", detail)

    def _check_size(self, by: str, job: str, size: int) -> None:
        if self.workers is not None and size != self.workers:
            detail = f"{by}: generation {self.generation} of {job} has {size} workers, not {self.workers}"
            raise Violation("a granted resize is carried out", detail)
