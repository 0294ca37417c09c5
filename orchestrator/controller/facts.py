"""Facts taken into the record: who was seen, how far training is, what ended and how. Pure."""

from datetime import timedelta

from orchestrator.controller.autoscaling import since_s
from orchestrator.controller.draft import Draft
from orchestrator.controller.observation import InstanceView
from orchestrator.controller.offers import set_aside
from orchestrator.controller.recovery import UNRESPONSIVE_AFTER_S, backoff_s, is_leaving, judge
from orchestrator.fleets.protocol import InstanceState
from orchestrator.jobs.charges import added
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.head import Head
from orchestrator.jobs.instances import latest_progress, recent_percent
from orchestrator.jobs.phases import GenerationPhase
from orchestrator.jobs.record import Generation, InstanceUse, Outcome

NOTE_EVERY_S = 30.0
DRAIN_TIMEOUT_S = 180.0
HEARD_LATE_S = 90.0
"""An agent's word may be so old when it is read."""
RUNG_UNAVAILABLE_S = 600.0
NEVER_AGAIN = timedelta(days=365)

_NOTICE_EVENTS = {
    "checkpoint_rejected": EventKind.CHECKPOINT_REJECTED,
    "checkpoint_failed": EventKind.CHECKPOINT_FAILED,
    "preemption_notice": EventKind.PREEMPTION_NOTICE,
    "note": EventKind.NOTE,
}


def take_in(draft: Draft) -> None:
    """Bring the record up to what is seen."""
    _mark_seen(draft)
    _watch_over(draft)
    _charge_ended(draft)
    _tell_notices(draft)
    head = draft.seen.head
    if head is not None and head.step != draft.record.committed_step:
        draft.set(committed_step=head.step)
    if draft.running is not None:
        _take_in_seal(draft)
        _note_progress(draft)
        _take_in_image(draft)
        _take_in_first_step(draft)
        _take_in_end(draft)


def note_fleet_trouble(draft: Draft) -> None:
    """Tell once that the fleet does not answer, and once that it does again: nothing else is decided meanwhile."""
    trouble, told = draft.seen.fleet_trouble, draft.record.fleet_trouble
    if trouble and not told:
        draft.set(fleet_trouble=trouble)
        draft.event(EventKind.UNRESPONSIVE, f"{trouble}; nothing is decided until it does")
    elif told and not trouble:
        draft.set(fleet_trouble="")
        draft.event(EventKind.NOTE, f"the {draft.seen.spec.resources.fleet} fleet answers again")


def is_ended(view: InstanceView) -> bool:
    """Whether an instance that was retired needs nothing more: the fleet was told, and it is gone."""
    return view.terminated


def forget_ended_instances(draft: Draft) -> None:
    """Retired instances that are gone leave the record."""
    ended = {i for i in draft.record.retired if is_ended(draft.seen.view(i))}
    if ended:
        draft.set(retired=tuple(i for i in draft.record.retired if i not in ended))
        told = {i: number for i, number in draft.record.notices_told.items() if i not in ended}
        draft.set(notices_told=told)


def _watch_over(draft: Draft) -> None:
    """A new leader knows how long an instance has lived once its agent has written under the new leader's eyes.

    Where the fleet tells, nobody has to know it otherwise.
    """
    epoch = draft.seen.epoch
    heard = {
        use.instance
        for use in draft.record.uses
        if use.watched_by != epoch
        and use.usd_per_hour
        and (view := draft.seen.view(use.instance)).lived_s is None
        and (beat := view.heartbeat) is not None
        and (beat.epoch == epoch or view.is_live)
    }
    if heard:
        draft.count_time()
        draft.set(
            uses=tuple(
                use.model_copy(update={"watched_by": epoch, "lived_s": use.lived_s + HEARD_LATE_S})
                if use.instance in heard
                else use
                for use in draft.record.uses
            )
        )


def _charge_ended(draft: Draft) -> None:
    """What instances that are gone have cost is spent: what the fleet says. Absent is not gone: it may be shown later.

    Where the fleet does not tell, one that nobody has watched since the leader changed may have lived for all of its
    allowance: no clock that the two leaders share could tell. But one that neither fleet nor heartbeat ever showed, nor
    the fleet for as long as it may lag after it was told to end it, was never there.
    """
    ended = {
        use.instance
        for use in draft.record.uses
        if is_ended(view := draft.seen.view(use.instance)) or view.state is InstanceState.GONE
    }
    if ended:
        draft.count_time()
        spent_usd, charges = draft.record.spent_usd, draft.record.charges
        for use in draft.record.uses:
            if use.instance in ended:
                lived_s = _at_most_s(use, draft.seen.view(use.instance), draft.seen.epoch)
                spent_usd, charges = spent_usd + use.cost_usd(lived_s), added(charges, use.charge(lived_s))
        rest = tuple(use for use in draft.record.uses if use.instance not in ended)
        draft.set(uses=rest, spent_usd=spent_usd, charges=charges)


def _at_most_s(use: InstanceUse, view: InstanceView, epoch: int) -> float:
    if view.state is InstanceState.GONE and view.lived_s is not None:
        return view.lived_s
    if not use.shown:
        return 0.0
    if use.watched_by == epoch:
        return use.lived_s
    return use.lived_s if use.allowance_s is None else use.allowance_s


def leave_alone(draft: Draft, rung: int, *, permanent: bool = False) -> None:
    """A rung is not tried again for a while, or never."""
    until = draft.now + (NEVER_AGAIN if permanent else timedelta(seconds=RUNG_UNAVAILABLE_S))
    draft.set(unavailable_rungs={**draft.record.unavailable_rungs, rung: until})


def unavailable_rungs(draft: Draft) -> frozenset[int]:
    """Rungs that are left alone now. A time further ahead than any that is ever set was set by another clock."""
    left_s = {rung: (until - draft.now).total_seconds() for rung, until in draft.record.unavailable_rungs.items()}
    never_s = NEVER_AGAIN.total_seconds() / 2
    return frozenset(rung for rung, s in left_s.items() if 0 < s <= RUNG_UNAVAILABLE_S or s > never_s)


def _mark_seen(draft: Draft) -> None:
    """Slots whose instance is there; from then on its absence means something. And who costs money for certain.

    One that was launched and is forgotten may have lived for all of its allowance, while nobody looked.
    """
    forgotten = {use.instance for use in draft.record.uses if draft.seen.view(use.instance).never_shown}
    if any(use.instance in forgotten and not use.shown for use in draft.record.uses):
        told = {"shown": True, "watched_by": 0}
        uses = (use.model_copy(update=told if use.instance in forgotten else {}) for use in draft.record.uses)
        draft.set(uses=tuple(uses))
    shown = {
        use.instance
        for use in draft.record.uses
        if not use.shown and ((view := draft.seen.view(use.instance)).state is not None or view.heartbeat is not None)
    }
    if shown:
        draft.set(
            uses=tuple(
                use.model_copy(update={"shown": True}) if use.instance in shown else use for use in draft.record.uses
            )
        )
    for name in ("generation", "upcoming"):
        generation: Generation | None = getattr(draft.record, name)
        if generation is None or generation.phase is GenerationPhase.ENDED:
            continue
        new = [s.instance for s in generation.slots if not s.seen and draft.seen.view(s.instance).state is not None]
        if not new:
            continue
        slots = tuple(s.model_copy(update={"seen": s.seen or s.instance in new}) for s in generation.slots)
        draft.set(**{name: generation.model_copy(update={"slots": slots})})


def _tell_notices(draft: Draft) -> None:
    for instance, view in sorted(draft.seen.instances.items()):
        if view.heartbeat is None or instance in draft.record.retired:
            continue
        told = draft.record.notices_told.get(instance, 0)
        for notice in view.heartbeat.notices:
            if notice.number > told:
                draft.event(_NOTICE_EVENTS[notice.kind], notice.message, instance=instance)
                draft.set(notices_told={**draft.record.notices_told, instance: notice.number})


def _take_in_seal(draft: Draft) -> None:
    """What the seal has fixed: where this generation resumes, and so what the one before has lost."""
    generation, head = draft.record.generation, draft.seen.head
    if generation is None or head is None or head.generation != generation.number:
        return
    if not generation.sealed:
        reached = draft.record.progress.step if draft.record.progress else 0
        _resume_from(draft, generation.model_copy(update={"sealed": True}), head, lost=reached - head.step)
    elif generation.resume is not None and generation.resume in head.rejected:
        _resume_from(draft, generation, head, lost=generation.resume_step - head.step)


def _resume_from(draft: Draft, generation: Generation, head: Head, *, lost: int) -> None:
    """The generation starts from the head. Progress goes back to there, so that no step is lost twice."""
    moved = generation.model_copy(update={"resume": head.checkpoint, "resume_step": head.step})
    progress = draft.record.progress
    if progress is not None and progress.step > head.step:
        progress = progress.model_copy(update={"step": head.step})
    draft.set(generation=moved, progress=progress, lost_steps=draft.record.lost_steps + max(0, lost))


def _note_progress(draft: Draft, *, at_end: bool = False) -> None:
    """Write progress and utilisation down: every few seconds, and when the workers have ended."""
    running = draft.running
    if running is None:
        return
    noted_at = draft.record.noted_at
    recent = noted_at is not None and timedelta(0) <= draft.now - noted_at < timedelta(seconds=NOTE_EVERY_S)
    if recent and not at_end:
        return
    beats = [b for i in running.instances if (b := draft.seen.view(i).heartbeat) and b.generation == running.number]
    reports = [beat.progress for beat in beats if beat.progress is not None]
    latest = latest_progress(reports)
    if latest is None or latest == draft.record.progress:
        return
    draft.set(progress=latest, noted_at=draft.now)
    samples = [beat.utilization for beat in beats if beat.utilization is not None]
    percent = recent_percent(samples)
    if percent is not None:
        draft.set(utilization_percent=percent, utilization_source=samples[0].source)


def _take_in_image(draft: Draft) -> None:
    """What the workers run in, as the first instance that has it tells."""
    running = draft.running
    if running is None or running.image:
        return
    beats = [draft.seen.view(instance).heartbeat for instance in running.instances]
    told = (beat.image for beat in beats if beat is not None and beat.generation == running.number and beat.image)
    if (image := next(told, "")) and draft.record.generation is not None:
        draft.set(generation=draft.record.generation.model_copy(update={"image": image}))


def _take_in_first_step(draft: Draft) -> None:
    running = draft.running
    if running is None or running.phase is not GenerationPhase.STARTING:
        return
    for instance in running.instances:
        beat = draft.seen.view(instance).heartbeat
        if beat is not None and beat.generation == running.number and beat.progress is not None:
            draft.advance(GenerationPhase.TRAINING, training_at=draft.now)
            waited = since_s(running.started_at or running.created_at, draft.now) or 0.0
            message = f"generation {running.number} trains from step {running.resume_step}"
            draft.event(EventKind.TRAINING, message, step=beat.progress.step, after_s=round(waited, 1))
            return


def _take_in_end(draft: Draft) -> None:
    """Whether the workers have ended, and how."""
    running = draft.running
    if running is None:
        return
    judgement = judge(running, draft.seen.instances, draft.seen.spec.limits.stall)
    # By the job's age, and by this controller's own clock, for it may not have looked for long.
    overdue = (
        running.drain_age_s is not None
        and draft.age_s - running.drain_age_s > DRAIN_TIMEOUT_S
        and all(draft.seen.view(i).stalled_s > DRAIN_TIMEOUT_S for i in running.instances)
    )
    if judgement.verdict == "alive" and overdue:
        draft.retire(running.instances)
        _end_generation(draft, "lost", EventKind.INSTANCE_LOST, f"did not drain within {DRAIN_TIMEOUT_S:g} s")
    elif judgement.verdict == "alive":
        _warn_of_silence(draft, running)
    elif judgement.verdict == "lost":
        draft.retire(judgement.instances)
        _end_generation(draft, "lost", EventKind.INSTANCE_LOST, judgement.message)
    elif judgement.verdict == "stalled":
        _end_generation(draft, "failed", EventKind.WORKER_FAILED, judgement.message, stalled=True)
    elif judgement.verdict in ("failed", "refused"):
        _end_generation(draft, judgement.verdict, EventKind.WORKER_FAILED, judgement.message)
    else:
        _end_generation(draft, judgement.verdict, EventKind.GENERATION_ENDED, judgement.message)


def _note_interruptions(draft: Draft, running: Generation) -> None:
    """Where a spot instance was taken back more of them are: the next is tried elsewhere first."""
    for slot in running.slots:
        view = draft.seen.view(slot.instance)
        if slot.market == "spot" and (is_leaving(view) or view.state is InstanceState.GONE):
            set_aside(draft, draft.seen.spec.resources.ladder[running.rung].instance, slot, "interrupted")


def _end_generation(draft: Draft, outcome: Outcome, kind: EventKind, message: str, *, stalled: bool = False) -> None:
    _note_progress(draft, at_end=True)
    running, record = draft.running, draft.record
    assert running is not None
    _note_interruptions(draft, running)
    draft.advance(GenerationPhase.ENDED, ended_at=draft.now, outcome=outcome, stalled=stalled)
    progressed = running.sealed and record.committed_step > running.resume_step
    draft.event(
        kind,
        f"generation {running.number}: {message}",
        outcome=outcome,
        committed_step=record.committed_step,
        step=record.progress.step if record.progress else None,
    )
    if outcome == "failed":
        failures = 1 if progressed else record.failures + 1
        draft.set(failures=failures, reason=message, retry_at=draft.now + timedelta(seconds=backoff_s(failures)))
    elif outcome == "lost":
        losses = 1 if progressed else record.losses + 1
        draft.set(losses=losses, reason=message, retry_at=draft.now + timedelta(seconds=backoff_s(losses)))
    elif outcome == "refused":
        draft.set(failures=record.failures + 1, reason=message)
    else:
        draft.set(failures=0, losses=0, retry_at=None)


def _warn_of_silence(draft: Draft, running: Generation) -> None:
    """Say once that an instance is silent; the fleet's word, not the silence, decides."""
    silent = {
        i: view.silent_s for i in running.instances if (view := draft.seen.view(i)).silent_s > UNRESPONSIVE_AFTER_S
    }
    for instance, silent_s in silent.items():
        if instance not in draft.record.unresponsive:
            message = f"{instance} has been silent for {silent_s:.0f} s; the fleet says that it runs"
            draft.set(reason=message)
            draft.event(EventKind.UNRESPONSIVE, message, instance=instance, silent_s=round(silent_s, 1))
    if draft.record.unresponsive and not silent:
        draft.set(reason=running_reason(draft, running.rung))
    if tuple(silent) != draft.record.unresponsive:
        draft.set(unresponsive=tuple(silent))


def running_reason(draft: Draft, rung: int) -> str:
    """Why a job is in its phase when all is well."""
    workers = draft.seen.spec.resources.ladder[rung].world_size
    return f"running on {workers} worker{'s' if workers > 1 else ''}"
