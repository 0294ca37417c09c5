"""Acting: the only place of the controller with effects. Records first, then the world.

The events decided with a record are in it (`outbox`), and are in the bucket before the record is written again: no
event is lost with a controller, and none is written twice. Before each effect it is asked whether this controller
leads still: a process can stand still between any two of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator.controller.decide import Decision
from orchestrator.controller.decisions import keep_decision
from orchestrator.controller.effects import Assign, DropRequest, Effect, Forget, Launch, Seal, Terminate
from orchestrator.controller.observation import LaunchFailure, Observation
from orchestrator.controller.watch import JobWatch, instances_of
from orchestrator.fleets.protocol import Fleet, FleetError, InstanceState, LaunchError, LaunchRequest
from orchestrator.jobs import layout
from orchestrator.jobs.events import Event, write_event
from orchestrator.jobs.head import seal
from orchestrator.jobs.instances import Assignment
from orchestrator.jobs.record import JobRecord
from orchestrator.store import document
from orchestrator.store.document import Nonce, Stored
from orchestrator.store.protocol import Conflict, Store, StoreError

LAUNCH_TAKES_S = 10.0
"""After a launch that took longer the record is read again: a newer leader may have called it off meanwhile."""
LAUNCH_AGAIN_S = 10.0
"""A fleet may show an instance only a while after it has taken the launch: it is not asked again before this."""
UNDO_TRIES = 3
"""How often a launch that was called off meanwhile is looked at until it is undone; fleets and stores try again too."""
END_AGAIN_S = 20.0
"""Ending takes a while: the fleet is not told again before this."""


class Stale(Exception):
    """An assignment of a newer leader or generation is there: this controller's view is old."""


@dataclass
class Actor:
    """Carries out decisions for one leader."""

    store: Store
    nonce: Nonce
    monotonic: Callable[[], float]
    still_leading: Callable[[], bool]
    drop_request: Callable[[str, str], None]
    """Called with job and request: it was carried out and is to be removed."""
    tell: Callable[[str, Event], None]
    """Called with job and event when an event is written."""

    def act(
        self, seen: Observation, stored: Stored[JobRecord], decision: Decision, watch: JobWatch, fleet: Fleet
    ) -> bool:
        """Write the record if it changed, then carry out the effects; True if anything was done.

        Raises Conflict; and FleetError, when all that could be done was done.
        """
        job = seen.record.name
        self._flush(job, seen.record, watch)
        done = decision.record is not seen.record
        if done:
            if decision.record.outbox:
                keep_decision(self.store, seen, decision)
            self._write(stored, decision.record, watch)
            self._flush(job, decision.record, watch)
        elif any(isinstance(effect, Launch) for effect in decision.effects):
            self._confirm(watch, stored)
        return self._carry_out_all(decision.effects, watch, fleet) or done

    def _carry_out_all(self, effects: Iterable[Effect], watch: JobWatch, fleet: Fleet) -> bool:
        """Carry out what can be: an instance that a fleet cannot end now keeps no other from its orders.

        Where one cannot be launched those beside it are not either: all of them go elsewhere, or are asked for again.
        """
        done, unclear, goes_on = False, list[FleetError](), True
        for effect in effects:
            if not self.still_leading():
                break
            if isinstance(effect, Launch) and not goes_on:
                continue
            try:
                done = self._carry_out(effect, watch, fleet) or done
            except FleetError as error:
                unclear.append(error)
                goes_on = goes_on and not isinstance(effect, Launch)
            if isinstance(effect, Launch) and effect.request.instance in watch.launch_failures:
                goes_on = False
        if unclear:
            raise unclear[0]
        return done

    def _write(self, stored: Stored[JobRecord], record: JobRecord, watch: JobWatch) -> None:
        """Replace the record. What the decision has counted ends at its observation, not after the writing."""
        nonce = self.nonce()
        watch.writes[nonce] = watch.observed_at_s
        watch.record.wrote(document.swap(self.store, layout.record_key(watch.job), stored, record, lambda: nonce))
        watch.writes.clear()
        watch.writes[nonce] = watch.observed_at_s
        if record.upcoming is not None:
            watch.never_was |= {*record.upcoming.instances}.difference(instances_of(stored.value))

    def _flush(self, job: str, record: JobRecord, watch: JobWatch) -> None:
        for event in record.outbox:
            if event.number > watch.events_flushed:
                write_event(self.store, job, event)
                watch.events_flushed = event.number
                self.tell(job, event)

    def _confirm(self, watch: JobWatch, stored: Stored[JobRecord]) -> None:
        """Before money is spent on what was decided earlier: is it still what the record says?"""
        now = watch.record.read(self.store)
        if now is None or now.etag != stored.etag:
            raise Conflict(f"{layout.record_key(watch.job)} was written by somebody else")

    def _carry_out(self, effect: Effect, watch: JobWatch, fleet: Fleet) -> bool:
        """Carry one effect out; False if that was done just before, and its outcome is waited for."""
        match effect:
            case Seal(job, epoch, generation):
                watch.head.wrote(seal(self.store, job, epoch, generation, self.nonce))
            case Assign(instance, assignment):
                return self._assign(instance, assignment, watch)
            case Launch(request):
                return self._launch(request, watch, fleet)
            case Terminate(instance):
                return self._terminate(instance, watch, fleet)
            case Forget(instance):
                remove_instance(self.store, instance)
            case DropRequest(job, request):
                self.drop_request(job, request)
        return True

    def _assign(self, instance: str, assignment: Assignment, watch: JobWatch) -> bool:
        key, watched = layout.assignment_key(instance), watch.assignment(instance)
        present = watched.known(self.store)
        if present is None:
            watched.wrote(document.create(self.store, key, assignment, self.nonce))
            return True
        held = present.value
        if held.epoch > assignment.epoch or held.generation > assignment.generation:
            raise Stale(f"{instance} was assigned by epoch {held.epoch} to generation {held.generation}")
        if held.same_order(assignment):
            return False
        watched.wrote(document.swap(self.store, key, present, assignment, self.nonce))
        return True

    def _launch(self, request: LaunchRequest, watch: JobWatch, fleet: Fleet) -> bool:
        """Ask for an instance. Where the reply is lost, the same is asked again at the next tick."""
        at_s = watch.launched_at_s.get(request.instance)
        if at_s is not None and self.monotonic() - at_s < LAUNCH_AGAIN_S:
            return False
        never_was, began_s = request.instance in watch.never_was, self.monotonic()
        watch.never_was.discard(request.instance)
        try:
            fleet.launch(request)
        except LaunchError as error:
            watch.launch_failures[request.instance] = LaunchFailure(str(error), error.kind)
            if never_was:
                watch.never_was.add(request.instance)
        else:
            watch.launched_at_s[request.instance] = now_s = self.monotonic()
            watch.taken_since_s.setdefault(request.instance, now_s)
        finally:
            if self.monotonic() - began_s > LAUNCH_TAKES_S:
                self._end_unwanted(request.instance, watch, fleet)
        return True

    def _end_unwanted(self, instance: str, watch: JobWatch, fleet: Fleet) -> None:
        """End what was launched if nobody wants it any more: its name is never used again, and nobody pays for it.

        Tried more than once: who leads by now does not know of it, and this controller may not look at it again.
        """
        for left in reversed(range(UNDO_TRIES)):
            try:
                now = watch.record.read(self.store)
                if now is not None and now.value.wants(instance):
                    return
                fleet.terminate(instance)
            except (FleetError, StoreError):
                if not left:
                    raise
            else:
                raise Conflict(f"{instance} was called off by somebody else while it was launched")

    def _terminate(self, instance: str, watch: JobWatch, fleet: Fleet) -> bool:
        """Tell the fleet to end an instance, again and again, until it is gone."""
        if instance in watch.never_was:
            watch.forget(instance)
            return True
        now_s = self.monotonic()
        first_s, last_s = watch.end_told_s.get(instance, (now_s, None))
        state = watch.state(instance)
        # Absent is not gone as long as the fleet may not have heard of its own launch yet.
        is_gone = state is InstanceState.GONE or (state is None and now_s - first_s >= fleet.lag_s)
        if last_s is not None and is_gone:
            watch.forget(instance)
            return True
        if last_s is not None and now_s - last_s < END_AGAIN_S:
            return False
        fleet.terminate(instance)
        watch.end_told_s[instance] = first_s, now_s
        return True


def remove_instance(store: Store, instance: str) -> None:
    """Remove the objects of an instance."""
    store.delete(layout.assignment_key(instance))
    store.delete(layout.heartbeat_key(instance))
