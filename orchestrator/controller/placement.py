"""Which instances a new generation runs on: those that are there and fit are kept, the rest are launched. Pure."""

from orchestrator.controller.draft import Draft
from orchestrator.controller.recovery import is_usable
from orchestrator.fleets.protocol import LaunchRequest
from orchestrator.jobs import layout
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.record import Cause, Generation, Slot
from orchestrator.spec.models import JobSpec


def provision(draft: Draft, rung: int, cause: Cause, reason: str) -> None:
    """Make the next generation the upcoming one. Its slots are the intents to launch what is missing."""
    number = draft.record.last_generation + 1
    kept = _kept_instances(draft, rung)
    count = draft.seen.spec.resources.ladder[rung].count
    slots = tuple(
        Slot(instance=kept[slot], seen=True)
        if slot < len(kept)
        else Slot(instance=layout.instance_id(draft.record.name, number, slot, attempt=0))
        for slot in range(count)
    )
    upcoming = Generation(number=number, rung=rung, cause=cause, slots=slots, created_at=draft.now)
    draft.set(upcoming=upcoming, last_generation=number, retry_at=None)
    draft.event(EventKind.PROVISIONING, reason, generation=number, rung=rung, cause=cause, instances=upcoming.instances)


def _kept_instances(draft: Draft, rung: int) -> list[str]:
    """Instances of the generation that has ended, if the new one wants the same kind."""
    ended = draft.record.generation
    if ended is None or ended.released or draft.running is not None or ended.rung != rung:
        return []
    return [i for i in ended.instances if i not in draft.record.retired and is_usable(draft.seen.view(i))]


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


def launch_request(spec: JobSpec, generation: Generation, instance: str) -> LaunchRequest:
    """What the fleet is asked for."""
    size = spec.resources.ladder[generation.rung]
    return LaunchRequest(
        instance=instance,
        job=spec.name,
        generation=generation.number,
        instance_type=size.instance,
        workers=size.workers,
        cores_per_worker=spec.training.threads,
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
