"""Acting: the only place of the controller with effects. Records first, then the world.

The events decided with a record are in it (`outbox`), and are in the bucket before the record is written again: no
event is lost with a controller, and none is written twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.controller.decide import Decision
from orchestrator.controller.effects import Assign, DropRequest, Effect, Launch, Seal, Terminate
from orchestrator.controller.observation import LaunchFailure, Observation
from orchestrator.controller.observe import JobWatch
from orchestrator.fleets.protocol import Fleet, InstanceState, LaunchError
from orchestrator.jobs import layout
from orchestrator.jobs.events import Event, write_event
from orchestrator.jobs.head import seal
from orchestrator.jobs.instances import Assignment
from orchestrator.jobs.record import JobRecord
from orchestrator.store import document
from orchestrator.store.document import Nonce, Stored
from orchestrator.store.protocol import Store


class Stale(Exception):
    """An assignment of a newer leader or generation is there: this controller's view is old."""


@dataclass
class Actor:
    """Carries out decisions for one leader."""

    store: Store
    nonce: Nonce
    tell: Callable[[str, Event], None]
    """Called with job and event when an event is written."""

    def act(
        self, seen: Observation, stored: Stored[JobRecord], decision: Decision, watch: JobWatch, fleet: Fleet
    ) -> bool:
        """Write the record if it changed, then carry out the effects; True if anything was done. Raises Conflict."""
        job = seen.record.name
        self._flush(job, seen.record, watch)
        changed = decision.record is not seen.record
        if changed:
            watch.record.stored = document.swap(self.store, layout.record_key(job), stored, decision.record, self.nonce)
            self._flush(job, decision.record, watch)
        for effect in decision.effects:
            self._carry_out(effect, watch, fleet)
        return changed or bool(decision.effects)

    def _flush(self, job: str, record: JobRecord, watch: JobWatch) -> None:
        for event in record.outbox:
            if event.number > watch.events_flushed:
                write_event(self.store, job, event)
                watch.events_flushed = event.number
                self.tell(job, event)

    def _carry_out(self, effect: Effect, watch: JobWatch, fleet: Fleet) -> None:
        match effect:
            case Seal(job, epoch, generation):
                watch.head.stored = seal(self.store, job, epoch, generation, self.nonce)
            case Assign(instance, assignment):
                self._assign(instance, assignment)
            case Launch(request):
                try:
                    fleet.launch(request)
                except LaunchError as error:
                    watch.launch_failures[request.instance] = LaunchFailure(str(error), permanent=error.permanent)
            case Terminate(instance):
                self._terminate(instance, watch, fleet)
            case DropRequest(job, request):
                self.store.delete(layout.request_key(job, request))

    def _assign(self, instance: str, assignment: Assignment) -> None:
        key = layout.assignment_key(instance)
        present = document.load(self.store, key, Assignment)
        if present is None:
            document.create(self.store, key, assignment, self.nonce)
            return
        held = present.value
        if held.epoch > assignment.epoch or held.generation > assignment.generation:
            raise Stale(f"{instance} was assigned by epoch {held.epoch} to generation {held.generation}")
        if not held.same_order(assignment):
            document.swap(self.store, key, present, assignment, self.nonce)

    def _terminate(self, instance: str, watch: JobWatch, fleet: Fleet) -> None:
        fleet.terminate(instance)
        if fleet.describe([instance]).get(instance) in (None, InstanceState.GONE):
            self.store.delete(layout.assignment_key(instance))
            self.store.delete(layout.heartbeat_key(instance))
            watch.terminated.add(instance)
            watch.heartbeats.pop(instance, None)
            watch.assignments.pop(instance, None)
