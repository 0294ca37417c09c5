"""A record while it is being decided on: changes are collected, transitions checked, events numbered.

The only mutable thing in the deciding modules, and it never leaves `decide`.
"""

from datetime import datetime
from typing import Any

from orchestrator.controller.observation import Observation
from orchestrator.jobs.events import Event, EventKind
from orchestrator.jobs.phases import (
    GenerationPhase,
    JobPhase,
    check_generation_transition,
    check_job_transition,
)
from orchestrator.jobs.record import Generation, InstanceUse, JobRecord


class Draft:
    """The next version of a record."""

    def __init__(self, seen: Observation, now: datetime) -> None:
        self.seen = seen
        self.now = now
        self.before: JobRecord = seen.record.model_copy(update={"outbox": ()}) if seen.record.outbox else seen.record
        self.record: JobRecord = self.before
        self._uncounted_s = seen.record.since_counted_s(now) if seen.since_written_s is None else seen.since_written_s
        self._is_counted = False
        self._uses_now: tuple[tuple[InstanceUse, ...], tuple[InstanceUse, ...]] = ((), ())

    @property
    def age_s(self) -> float:
        """How long the job has existed, by no wall clock that this controller can do without; until it was over."""
        counted = self._is_counted or self.before.phase.over
        return self.record.age_s if counted else self.record.age_s + self._uncounted_s

    def uses_now(self) -> tuple[InstanceUse, ...]:
        """What costs money, with how long it has lived by now."""
        if self._is_counted:
            return self.record.uses
        written, now = self._uses_now
        if written is not self.record.uses:
            now = tuple(use.model_copy(update={"lived_s": self._lived_s(use)}) for use in self.record.uses)
            self._uses_now = self.record.uses, now
        return now

    def count_time(self) -> None:
        """Add to the record the time that has passed since it was last written."""
        if not self._is_counted:
            self.set(age_s=self.age_s, counted_at=self.now, uses=self.uses_now())
            self._is_counted = True

    def _lived_s(self, use: InstanceUse) -> float:
        """How long an instance has lived: what the fleet says; else what its agent says or was counted, the greater.

        No wall clock tells: what nobody knows is charged at the end, and is reserved until then.
        """
        view = self.seen.view(use.instance)
        if view.lived_s is not None:
            return view.lived_s
        counted_s = use.lived_s + (self.seen.since_written_s or 0.0)
        return counted_s if view.heartbeat is None else max(counted_s, view.heartbeat.uptime_s + view.silent_s)

    def set(self, **changes: Any) -> None:
        """Change fields other than the phase."""
        self.record = self.record.model_copy(update=changes)

    def event(self, kind: EventKind, message: str, **inputs: Any) -> None:
        """Tell what was decided or seen, with what it was decided on."""
        generation = self.record.generation or self.record.upcoming
        event = Event(
            number=self.record.last_event + 1,
            at=self.now,
            epoch=self.seen.epoch,
            generation=generation.number if generation else 0,
            kind=kind,
            message=message,
            inputs=inputs,
            decision=self.before.seq + 1,
        )
        self.set(last_event=event.number, outbox=(*self.record.outbox, event))

    def go(self, phase: JobPhase, reason: str) -> None:
        """Move the job to another phase."""
        if phase is not self.record.phase:
            check_job_transition(self.record.phase, phase)
        self.set(phase=phase, reason=reason)
        if phase.over:
            self.set(ended_at=self.now)

    def advance(self, phase: GenerationPhase, **changes: Any) -> Generation:
        """Move the current generation to another phase."""
        generation = self.record.generation
        assert generation is not None
        check_generation_transition(generation.phase, phase)
        moved = generation.model_copy(update={"phase": phase, **changes})
        self.set(generation=moved)
        return moved

    def retire(self, instances: tuple[str, ...]) -> None:
        """These instances are no longer wanted."""
        new = tuple(i for i in instances if i not in self.record.retired)
        self.set(retired=(*self.record.retired, *new))

    @property
    def running(self) -> Generation | None:
        """The generation whose workers are (or may be) alive."""
        generation = self.record.generation
        return generation if generation is not None and generation.phase is not GenerationPhase.ENDED else None
