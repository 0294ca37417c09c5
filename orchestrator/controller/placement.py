"""Which instances a new generation runs on: those that are there and fit are kept, the rest are launched. Pure."""

from orchestrator.controller.budget import Grant, grant
from orchestrator.controller.draft import Draft
from orchestrator.controller.recovery import can_be_kept, is_usable
from orchestrator.fleets.protocol import LaunchRequest
from orchestrator.jobs import layout
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.record import Cause, Generation, InstanceUse, Slot
from orchestrator.spec.models import JobSpec


def why_not_payable(draft: Draft, rung: int) -> str:
    """Why the limits do not pay for another generation on a rung; empty if they do."""
    size = draft.seen.spec.resources.ladder[rung]
    missing = size.count - len(_kept_instances(draft, rung))
    if not missing:
        return ""  # those that are there cost what they cost
    return why_too_dear(draft, rung) or grant_for(draft, size.instance, missing).refusal


def why_too_dear(draft: Draft, rung: int) -> str:
    """Why a rung costs more an hour than it may; empty if it does not."""
    limit, size = draft.seen.spec.limits.max_hourly_cost, draft.seen.spec.resources.ladder[rung]
    usd_per_hour = size.count * draft.seen.prices.get(size.instance, 0.0)
    if limit is None or usd_per_hour <= limit:
        return ""
    return (
        f"{size.count} × {size.instance} costs ${usd_per_hour:.2f} an hour, "
        f"and limits.max_hourly_cost allows ${limit:.2f}"
    )


def grant_for(draft: Draft, instance_type: str, count: int) -> Grant:
    """How long so many new instances may live."""
    counted = draft.record.model_copy(update={"uses": draft.uses_now()})
    return grant(draft.seen.spec, counted, draft.age_s, count, draft.seen.prices.get(instance_type, 0.0))


def use(draft: Draft, instance_type: str, instances: tuple[str, ...], allowance_s: float | None) -> None:
    """From now on these cost money: that is in the record before any of them is launched."""
    draft.count_time()
    price = draft.seen.prices.get(instance_type, 0.0)
    new = (
        InstanceUse(
            instance=i,
            instance_type=instance_type,
            usd_per_hour=price,
            since=draft.now,
            allowance_s=allowance_s,
            watched_by=draft.seen.epoch,
        )
        for i in instances
    )
    draft.set(uses=(*draft.record.uses, *new))


def provision(draft: Draft, rung: int, cause: Cause, reason: str) -> None:
    """Make the next generation the upcoming one. Its slots are the intents to launch what is missing.

    It must be payable: see `why_not_payable`.
    """
    number = draft.record.last_generation + 1
    kept = _kept_instances(draft, rung)
    size = draft.seen.spec.resources.ladder[rung]
    count = size.count
    slots = tuple(
        Slot(instance=kept[slot], seen=True)
        if slot < len(kept)
        else Slot(instance=layout.instance_id(draft.record.name, number, slot, attempt=0))
        for slot in range(count)
    )
    new = tuple(slot.instance for slot in slots[len(kept) :])
    granted = grant_for(draft, size.instance, len(new)) if new else Grant(None)
    use(draft, size.instance, new, granted.allowance_s)
    upcoming = Generation(number=number, rung=rung, cause=cause, slots=slots, created_at=draft.now)
    draft.set(upcoming=upcoming, last_generation=number, retry_at=None)
    draft.event(
        EventKind.PROVISIONING,
        reason,
        generation=number,
        rung=rung,
        cause=cause,
        instances=upcoming.instances,
        allowance_s=granted.allowance_s,
    )


def _kept_instances(draft: Draft, rung: int) -> list[str]:
    """Instances of the generation that has ended, if the new one wants the same kind."""
    ended = draft.record.generation
    if ended is None or ended.released or draft.running is not None or ended.rung != rung:
        return []
    # Those who have lost one of theirs are told to stop, and are waited for; else only who has stopped already is kept.
    fits = can_be_kept if ended.outcome == "lost" else is_usable
    return [i for i in ended.instances if i not in draft.record.retired and fits(draft.seen.view(i))]


def replace_lost_slot(upcoming: Generation, lost: str, job: str) -> Generation:
    """The same generation with a new name, so a new launch, in the place of an instance that did not come up."""
    slots = []
    for number, slot in enumerate(upcoming.slots):
        if slot.instance != lost:
            slots.append(slot)
            continue
        attempt = int(lost.rsplit("-a", 1)[1]) + 1 if lost.startswith(f"{job}-g{upcoming.number}-") else 0
        slots.append(Slot(instance=layout.instance_id(job, upcoming.number, number, attempt)))
    return upcoming.model_copy(update={"slots": tuple(slots)})


def launch_request(spec: JobSpec, generation: Generation, instance: str, allowance_s: float | None) -> LaunchRequest:
    """What the fleet is asked for."""
    size = spec.resources.ladder[generation.rung]
    return LaunchRequest(
        instance=instance,
        job=spec.name,
        generation=generation.number,
        instance_type=size.instance,
        workers=size.workers,
        cores_per_worker=spec.training.threads,
        allowance_s=allowance_s,
        image=spec.resources.image,
    )


def release(draft: Draft, *, keep_running: bool = False) -> None:
    """Retire the instances and forget the upcoming generation; with `keep_running` the running one keeps its own."""
    running, upcoming, generation = draft.running, draft.record.upcoming, draft.record.generation
    kept = running.instances if running is not None and keep_running else ()
    if upcoming is not None:
        draft.retire(tuple(i for i in upcoming.instances if i not in kept))
        draft.set(upcoming=None)
    if generation is not None and not generation.released and not kept:
        draft.retire(generation.instances)
        draft.set(generation=generation.model_copy(update={"released": True}))
