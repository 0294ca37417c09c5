"""decide(observation, now) -> a new record and the effects to carry out: the whole policy for one job, pure.

First the facts are taken in (requests, heartbeats, exits, losses), then what should be is pursued, then the effects
follow from the record alone: whatever it says should be and is not seen is done. So a controller that dies at any
instruction is continued by the next one, which sees the same difference and does the same thing.
"""

from dataclasses import dataclass
from datetime import datetime

from orchestrator.controller import facts
from orchestrator.controller.autoscaling import ScalingInputs, decide_scaling
from orchestrator.controller.budget import longer_lives
from orchestrator.controller.draft import Draft
from orchestrator.controller.effects import Effect
from orchestrator.controller.launching import check_upcoming, wait_for_any, wait_for_capacity
from orchestrator.controller.limits import limit_reached
from orchestrator.controller.moving import note_market, wanted_move
from orchestrator.controller.observation import Observation
from orchestrator.controller.offers import set_aside
from orchestrator.controller.orders import effects_of
from orchestrator.controller.placement import leaving_slot, place_for, provision, release, why_not_payable
from orchestrator.controller.recovery import is_due, is_usable
from orchestrator.controller.rungs import other_rung, preferred_rung
from orchestrator.controller.wishes import take_requests
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.jobs.record import Cause, Generation, JobRecord, Outcome

MAX_LOSSES = 20
"""Instances may be taken away many times before the first checkpoint; more often than this, something else is wrong."""


class Deposed(Exception):
    """A newer leader has written the record: this one must stop."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


@dataclass(frozen=True)
class Decision:
    """What the record should become, and what must be done then."""

    record: JobRecord
    effects: tuple[Effect, ...]


def decide(seen: Observation, now: datetime) -> Decision:
    """Decide on one job. The record comes back equal to the one seen when nothing changes."""
    if seen.record.epoch > seen.epoch:
        raise Deposed(f"{seen.record.name} was written by a leader of epoch {seen.record.epoch}", seen.record.epoch)
    draft = Draft(seen, now)
    if seen.record.epoch < seen.epoch and not seen.record.phase.over:
        _take_over(draft)
    facts.note_fleet_trouble(draft)
    if seen.fleet_trouble:
        return Decision(_decided(draft), ())
    take_requests(draft)
    facts.take_in(draft)
    if not draft.record.phase.over:
        _pursue(draft)
    facts.forget_ended_instances(draft)
    record = _decided(draft)
    return Decision(record, tuple(effects_of(record, seen, now)))


def _decided(draft: Draft) -> JobRecord:
    """The record as it is to be: the one seen where nothing has changed."""
    if draft.record is draft.before or draft.record == draft.before:
        return draft.seen.record
    draft.count_time()
    draft.set(epoch=draft.seen.epoch)
    return draft.record


def _take_over(draft: Draft) -> None:
    """A new leader writes its epoch into every job that is not over, so that the one before cannot write after it."""
    old = draft.record.epoch
    draft.set(epoch=draft.seen.epoch)
    if old:
        message = f"a controller of epoch {draft.seen.epoch} has taken over from {old}"
        draft.event(EventKind.LEADER_CHANGED, message, old_epoch=old, new_epoch=draft.seen.epoch)


# --- what should be ---------------------------------------------------------------------------------------------------


def _pursue(draft: Draft) -> None:
    _extend_lives(draft)
    record, limit = draft.record, reached_limit(draft)
    if record.wanted == "cancel":
        _cancel(draft)
    elif _outcome(draft) == "finished":
        _end(draft, JobPhase.SUCCEEDED, EventKind.SUCCEEDED, f"finished at step {record.committed_step}")
    elif _outcome(draft) == "refused":
        _end(draft, JobPhase.FAILED, EventKind.FAILED, f"trying again would not help: {record.reason}")
    elif record.failures > draft.seen.spec.limits.max_failures:
        _end(
            draft,
            JobPhase.FAILED,
            EventKind.FAILED,
            f"{record.failures} failure{'s' if record.failures > 1 else ''} in a row without progress; "
            f"the last: {record.reason}",
        )
    elif record.losses > MAX_LOSSES:
        _end(
            draft,
            JobPhase.FAILED,
            EventKind.FAILED,
            f"{record.losses} losses in a row without progress; the last: {record.reason}",
        )
    elif limit is not None:
        _stop_gently(draft, JobPhase.FAILED, EventKind.FAILED, limit)
    elif record.wanted == "pause":
        _stop_gently(draft, JobPhase.PAUSED, EventKind.PAUSED, "paused")
    else:
        _run(draft)


def _working(draft: Draft) -> tuple[str, ...]:
    """Instances whose workers train, and need time to go on: who drains needs no more, and no budget ends it."""
    running = draft.running
    return running.instances if running is not None and running.phase is not GenerationPhase.DRAINING else ()


def _extend_lives(draft: Draft) -> None:
    """Give those that work more to live, from what is not reserved; it is in the record before they are told."""
    working = _working(draft)
    if not working:
        return
    uses = draft.uses_now()
    longer = longer_lives(draft.seen.spec, draft.record, uses, draft.age_s, working)
    if longer != uses:
        draft.count_time()
        draft.set(uses=longer)


def reached_limit(draft: Draft) -> str | None:
    """The limit that is or was reached: what an end gives back begins nothing new."""
    if draft.record.limit is not None:
        return draft.record.limit
    working, uses = _working(draft), draft.uses_now()
    limit = limit_reached(
        draft.seen.spec,
        age_s=draft.age_s,
        spent_usd=draft.record.spent_usd + sum(use.cost_usd(use.lived_s) for use in uses if use.shown),
        working=tuple(use for use in uses if use.instance in working),
        others=tuple(use for use in uses if use.instance not in working),
    )
    if limit is not None:
        draft.set(limit=limit)
    return limit


def _cancel(draft: Draft) -> None:
    """End everything at once; the job is cancelled when nothing of it is left."""
    release(draft)
    if draft.running is not None:
        draft.advance(GenerationPhase.ENDED, ended_at=draft.now, outcome="dropped")
    if not _remaining(draft):
        _conclude(draft, JobPhase.CANCELLED, EventKind.CANCELLED, draft.record.reason)


def _outcome(draft: Draft) -> Outcome | None:
    """How the current generation ended, if it did."""
    return draft.record.generation.outcome if draft.record.generation is not None else None


def _end(draft: Draft, phase: JobPhase, kind: EventKind, reason: str) -> None:
    """Nothing runs any more: let the instances go, and say how it ended."""
    release(draft)
    _conclude(draft, phase, kind, reason)


def _conclude(draft: Draft, phase: JobPhase, kind: EventKind, reason: str) -> None:
    """Enter a phase in which nothing runs, and say with what the job got there."""
    draft.count_time()
    draft.go(phase, reason)
    record, limits = draft.record, draft.seen.spec.limits
    draft.event(
        kind,
        reason,
        committed_step=record.committed_step,
        failures=record.failures,
        max_failures=limits.max_failures,
        spend_usd=round(record.spend_usd(draft.now), 6),
        max_cost_usd=limits.max_cost,
        age_s=round(draft.age_s, 3),
        deadline_s=limits.deadline,
    )


def _stop_gently(draft: Draft, phase: JobPhase, kind: EventKind, reason: str) -> None:
    """Drain, so that no work is lost, let the instances go, then enter `phase`."""
    running = draft.running
    release(draft, keep_running=True)
    if running is not None:
        _drain(draft, reason)
    elif draft.record.phase is not phase and not _remaining(draft):
        _conclude(draft, phase, kind, reason)


def _remaining(draft: Draft) -> tuple[str, ...]:
    """Instances that were retired and are not known to be gone."""
    return tuple(i for i in draft.record.retired if not facts.is_ended(draft.seen.view(i)))


def _run(draft: Draft) -> None:
    if draft.record.phase is JobPhase.PAUSED:
        draft.go(JobPhase.PENDING, "resumed; waiting for instances")
        draft.event(EventKind.RESUMED, "resumed", committed_step=draft.record.committed_step)
    _drop_unwanted(draft)
    check_upcoming(draft)
    if draft.record.phase.over:
        return
    if draft.running is not None and draft.record.upcoming is None:
        _replace_leaving(draft, draft.running)
    if draft.running is not None and draft.record.upcoming is None:
        _consider_resize(draft)
    upcoming, running = draft.record.upcoming, draft.running
    ready = upcoming is not None and all(is_usable(draft.seen.view(i)) for i in upcoming.instances)
    if running is not None and ready and upcoming is not None:
        _drain(draft, f"generation {upcoming.number} is ready to take over")
    elif running is None and ready:
        _start(draft)
    elif running is None and upcoming is None and is_due(draft.record.retry_at, draft.now):
        _go_on(draft)


def _go_on(draft: Draft) -> None:
    """Provision the next generation when none runs: if the limits pay for it."""
    rung, cause, reason = _next_generation(draft)
    choice = place_for(draft, rung).choice
    if choice.kind == "capacity" and (other := other_rung(draft, rung)) and not why_not_payable(draft, other[0]):
        rung, choice = other
    refusal = choice.refusal
    if not refusal:
        provision(draft, rung, cause, reason)
    elif choice.kind == "capacity":
        wait_for_any(draft, rung, refusal)
    elif choice.kind == "fatal":
        _end(draft, JobPhase.FAILED, EventKind.FAILED, f"no instance can be launched: {refusal}")
    elif choice.kind == "price" and draft.record.generation is not None:  # it was not when the job began
        wait_for_capacity(draft, rung, f"waiting for a lower price: {refusal}")
    elif not any(use.instance in draft.record.retired for use in draft.record.uses):  # else it may, when those are gone
        _end(draft, JobPhase.FAILED, EventKind.FAILED, refusal)


def _drop_unwanted(draft: Draft) -> None:
    """What is coming up is called off when a person has asked for another size meanwhile."""
    upcoming, pinned = draft.record.upcoming, draft.record.pinned_rung
    if upcoming is None or pinned is None or pinned == upcoming.rung:
        return
    release(draft, keep_running=True)
    workers = draft.seen.spec.resources.ladder[pinned].world_size
    message = f"generation {upcoming.number} is called off: a person asked for {workers} workers"
    draft.event(EventKind.RESIZE, message, rung=upcoming.rung, to_rung=pinned)


def _replace_leaving(draft: Draft, running: Generation) -> None:
    """Of several one is certain to go: another is launched while all of them drain, and the others work on with it."""
    slot, rung = leaving_slot(draft, running), running.rung
    if slot is None or running.phase is not GenerationPhase.TRAINING or draft.record.pinned_rung not in (None, rung):
        return
    reason = f"{slot.instance} will be taken away"
    if not why_not_payable(draft, rung):
        set_aside(draft, draft.seen.spec.resources.ladder[rung].instance, slot, "interrupted")
        provision(draft, rung, "preemption", f"{reason}: another is launched while all drain")
    _drain(draft, reason)


def _consider_resize(draft: Draft) -> None:
    """A person's wish first, then the 80/30 rule."""
    running, record, spec = draft.running, draft.record, draft.seen.spec
    if running is None or running.phase is not GenerationPhase.TRAINING:
        return
    pinned = record.pinned_rung
    if pinned is not None:
        if pinned != running.rung and pinned not in facts.unavailable_rungs(draft):
            workers = spec.resources.ladder[pinned].world_size
            _resize(
                draft,
                EventKind.RESIZE,
                pinned,
                "resize",
                f"a person asked for {workers} workers",
                {"rung": running.rung},
            )
        else:
            _consider_move(draft, running)
        return
    decision = decide_scaling(spec, scaling_inputs(draft, running))
    if decision.verdict == "up":
        _resize(draft, EventKind.SCALE_UP, decision.to_rung, "scale_up", decision.reason, decision.inputs)
    elif decision.verdict == "down":
        _resize(draft, EventKind.SCALE_DOWN, decision.to_rung, "scale_down", decision.reason, decision.inputs)
    else:
        _consider_move(draft, running)


def _consider_move(draft: Draft, running: Generation) -> None:
    """The same size elsewhere, if that is due and can be had."""
    move = wanted_move(draft, running)
    if move is not None and not why_not_payable(draft, running.rung, move.market):
        if move.leaves is not None:
            set_aside(draft, draft.seen.spec.resources.ladder[running.rung].instance, move.leaves, "interrupted")
        provision(draft, running.rung, move.cause, move.reason, market=move.market, seen=move.inputs)


def scaling_inputs(draft: Draft, running: Generation) -> ScalingInputs:
    """What the 80/30 rule looks at now."""
    beats = [draft.seen.view(i).heartbeat for i in running.instances]
    fresh = tuple(beat.utilization if beat and beat.generation == running.number else None for beat in beats)
    resized_at_s = draft.record.last_resize_age_s
    since_resize_s = None if resized_at_s is None else draft.age_s - resized_at_s
    return ScalingInputs(running.rung, fresh, since_resize_s, facts.unavailable_rungs(draft))


def _resize(draft: Draft, kind: EventKind, rung: int, cause: Cause, reason: str, inputs: dict[str, object]) -> None:
    choice = place_for(draft, rung).choice
    if choice.refusal:
        facts.leave_alone(draft, rung, permanent=choice.kind == "fatal")
        message = f"rung {rung} is left alone for a while: {choice.refusal}; training goes on as it is ({reason})"
        draft.event(EventKind.NO_CAPACITY, message, **{**inputs, "to_rung": rung})
        return
    draft.event(kind, reason, **{**inputs, "to_rung": rung})
    provision(draft, rung, cause, f"launching what rung {rung} needs while training goes on")


def _drain(draft: Draft, reason: str) -> None:
    running = draft.running
    if running is None or running.phase is GenerationPhase.DRAINING:
        return
    draft.advance(GenerationPhase.DRAINING, drain_reason=reason, drain_at=draft.now, drain_age_s=draft.age_s)
    message = f"generation {running.number} checkpoints and ends: {reason}"
    draft.event(EventKind.DRAINING, message, wanted=draft.record.wanted, committed_step=draft.record.committed_step)


def _start(draft: Draft) -> None:
    """The upcoming generation becomes the current one; what the one before leaves unused is retired."""
    upcoming, old, record = draft.record.upcoming, draft.record.generation, draft.record
    assert upcoming is not None
    if old is not None:
        if not old.released:
            draft.retire(tuple(i for i in old.instances if i not in upcoming.instances))
        if old.rung != upcoming.rung:
            draft.set(resizes=record.resizes + 1, last_resize_at=draft.now, last_resize_age_s=draft.age_s)
    started = upcoming.model_copy(update={"phase": GenerationPhase.STARTING, "started_at": draft.now})
    draft.set(generation=started, upcoming=None, started_at=record.started_at or draft.now)
    note_market(draft, started)
    workers = draft.seen.spec.resources.ladder[upcoming.rung].world_size
    draft.go(JobPhase.RUNNING, facts.running_reason(draft, upcoming.rung))
    draft.event(
        EventKind.STARTING,
        f"generation {upcoming.number} starts with {workers} worker{'s' if workers > 1 else ''}",
        rung=upcoming.rung,
    )


def _next_generation(draft: Draft) -> tuple[int, Cause, str]:
    """Rung, cause and reason of a generation when none runs."""
    record, last = draft.record, draft.record.generation
    rung = preferred_rung(draft)
    if last is None:
        return rung, "start", "launching the first instances"
    step = record.committed_step
    if last.outcome == "failed":
        return rung, "failure", f"starting again from step {step} after a failure"
    if last.outcome == "lost":
        return rung, "loss", f"starting again from step {step} after losing an instance"
    if last.drain_reason is None:
        return rung, "preemption", f"going on from step {step}: the instance was asked to end"
    return rung, "resume", f"going on from step {step}"
