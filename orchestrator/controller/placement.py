"""Which instances a new generation runs on: those that are there and fit are kept, the rest are launched. Pure.

All of a generation are in one zone: they talk to each other. Which offer they are had by is written into the slots, and
what they cost into the uses, before any of them is launched.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.controller.budget import Grant, grant
from orchestrator.controller.draft import Draft
from orchestrator.controller.offers import available
from orchestrator.controller.recovery import can_be_kept, is_leaving, is_usable
from orchestrator.fleets.protocol import LaunchRequest, Market, Offer
from orchestrator.jobs import layout
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.record import Cause, Generation, InstanceUse, Slot
from orchestrator.spec.models import JobSpec


@dataclass(frozen=True)
class Choice:
    """The offer by which new instances are had, and how long they may live; or why there is none."""

    offer: Offer | None = None
    granted: Grant = field(default_factory=lambda: Grant(None))
    refusal: str = ""
    kind: Literal["", "capacity", "price", "budget", "fatal"] = ""
    """What kind of refusal: capacity: none is to be had now; price: of the hour; budget: of its life; fatal: never."""


@dataclass(frozen=True)
class Place:
    """Where a generation may run: the slots that are kept, and how the others are had."""

    kept: tuple[Slot, ...]
    choice: Choice


def why_not_payable(draft: Draft, rung: int, market: Market | None = None) -> str:
    """Why another generation on a rung cannot be had; empty if it can."""
    return place_for(draft, rung, market).choice.refusal


def place_for(draft: Draft, rung: int, market: Market | None = None) -> Place:
    """Where another generation on a rung would run now: beside what can be kept, else somewhere else."""
    count, kept = draft.seen.spec.resources.ladder[rung].count, _kept_slots(draft, rung)
    if len(kept) >= count:
        return Place(kept[:count], Choice())  # those that are there cost what they cost
    if kept:
        beside = choose(draft, rung, count - len(kept), zone=kept[0].zone, market=market)
        if beside.kind != "capacity":
            return Place(kept, beside)
    return Place((), choose(draft, rung, count, market=market))


def choose(draft: Draft, rung: int, count: int, *, zone: str | None = None, market: Market | None = None) -> Choice:
    """The best offer that may be taken now and that the limits pay for. `zone`, `market`: only there."""
    size = draft.seen.spec.resources.ladder[rung]
    offers = draft.seen.offers.get(size.instance, ())
    if not offers:
        failure = draft.seen.no_offers.get(size.instance)
        refusal = failure.message if failure is not None else f"nobody offers {size.instance} now"
        return Choice(refusal=refusal, kind="fatal" if failure is not None and failure.kind == "fatal" else "capacity")
    if too_dear := why_too_dear(draft, rung):
        return Choice(refusal=too_dear, kind="price")
    refused = Choice(refusal=f"no offer of {size.instance} can be had now", kind="capacity")
    for offer in available(offers, draft.record.aside, draft.age_s):
        fits = zone in (None, offer.zone) and market in (None, offer.market)
        if not fits or _is_too_dear(draft, size.count, offer):
            continue
        granted = grant_for(draft, offer.usd_per_hour, count)
        if not granted.refusal:
            return Choice(offer, granted)
        refused = Choice(refusal=granted.refusal, kind="budget")
    return refused


def why_too_dear(draft: Draft, rung: int) -> str:
    """Why a rung costs more an hour than it may, wherever it is had; empty if it does not."""
    limit, size = draft.seen.spec.limits.max_hourly_cost, draft.seen.spec.resources.ladder[rung]
    offers = draft.seen.offers.get(size.instance, ())
    if limit is None or not offers or not all(_is_too_dear(draft, size.count, offer) for offer in offers):
        return ""
    usd_per_hour = size.count * min(offer.usd_per_hour for offer in offers)
    return (
        f"{size.count} × {size.instance} costs ${usd_per_hour:.2f} an hour, "
        f"and limits.max_hourly_cost allows ${limit:.2f}"
    )


def _is_too_dear(draft: Draft, count: int, offer: Offer) -> bool:
    limit = draft.seen.spec.limits.max_hourly_cost
    return limit is not None and count * offer.usd_per_hour > limit


def grant_for(draft: Draft, usd_per_hour: float, count: int) -> Grant:
    """How long so many new instances may live."""
    counted = draft.record.model_copy(update={"uses": draft.uses_now()})
    return grant(draft.seen.spec, counted, draft.age_s, count, usd_per_hour)


def use(draft: Draft, offer: Offer, instances: tuple[str, ...], allowance_s: float | None) -> None:
    """From now on these cost money: that is in the record before any of them is launched."""
    draft.count_time()
    new = (
        InstanceUse(
            instance=i,
            instance_type=offer.instance_type,
            zone=offer.zone,
            market=offer.market,
            usd_per_hour=offer.usd_per_hour,
            since=draft.now,
            allowance_s=allowance_s,
            watched_by=draft.seen.epoch,
        )
        for i in instances
    )
    draft.set(uses=(*draft.record.uses, *new))


def provision(
    draft: Draft,
    rung: int,
    cause: Cause,
    reason: str,
    *,
    market: Market | None = None,
    seen: Mapping[str, object] | None = None,
) -> None:
    """Make the next generation the upcoming one. Its slots are the intents to launch what is missing.

    It must be payable: see `why_not_payable`. `market`: only there; `seen`: what the decision was made on.
    """
    number, place = draft.record.last_generation + 1, place_for(draft, rung, market)
    size, offer, granted = draft.seen.spec.resources.ladder[rung], place.choice.offer, place.choice.granted
    names = [layout.instance_id(draft.record.name, number, slot, attempt=0) for slot in range(size.count)]
    new = new_slots(names[len(place.kept) :], offer) if offer is not None else ()
    if offer is not None:
        use(draft, offer, tuple(slot.instance for slot in new), granted.allowance_s)
    upcoming = Generation(
        number=number, rung=rung, cause=cause, slots=(*place.kept, *new), market=market, created_at=draft.now
    )
    draft.set(upcoming=upcoming, last_generation=number, retry_at=None)
    draft.event(
        EventKind.PROVISIONING,
        reason,
        generation=number,
        rung=rung,
        cause=cause,
        instances=upcoming.instances,
        allowance_s=granted.allowance_s,
        **inputs_of(offer),
        **(seen or {}),
    )


def new_slots(names: list[str], offer: Offer) -> tuple[Slot, ...]:
    """Slots whose instances are to be had by an offer."""
    return tuple(Slot(instance=name, zone=offer.zone, market=offer.market) for name in names)


def inputs_of(offer: Offer | None) -> dict[str, object]:
    """What an event tells of an offer."""
    if offer is None:
        return {}
    return {"zone": offer.zone, "market": offer.market, "usd_per_hour": offer.usd_per_hour}


def _kept_slots(draft: Draft, rung: int) -> tuple[Slot, ...]:
    """Slots of the generation that ends or has ended whose instances work on, if the new one wants the same kind."""
    ended = draft.record.generation
    if ended is None or ended.released or ended.rung != rung:
        return ()
    if draft.running is not None and leaving_slot(draft, ended) is None:
        return ()
    # Where one is going, was lost or has failed the others are told to stop, and are waited for; those who stood still
    # are not.
    waited_for = draft.running is not None or (ended.outcome in ("lost", "failed") and not ended.stalled)
    fits = can_be_kept if waited_for else is_usable
    views = {s: draft.seen.view(s.instance) for s in ended.slots if s.instance not in draft.record.retired}
    kept = (slot for slot, view in views.items() if fits(view) and not is_leaving(view))
    return tuple(slot.model_copy(update={"seen": True}) for slot in kept)


def leaving_slot(draft: Draft, generation: Generation) -> Slot | None:
    """Of several, one whose end is announced: all of them drain, and the others go on with another in its place."""
    if len(generation.slots) == 1:
        return None
    return next((slot for slot in generation.slots if is_leaving(draft.seen.view(slot.instance))), None)


def next_name(draft: Draft, upcoming: Generation, number: int) -> str:
    """A name, so a launch, that was never used for this slot of a generation."""
    job = draft.record.name
    own = [name for name in upcoming.instances if name.startswith(f"{job}-g{upcoming.number}-")]
    last = max((int(name.rsplit("-a", 1)[1]) for name in own), default=-1)
    return layout.instance_id(job, upcoming.number, number, attempt=last + 1)


def launch_request(spec: JobSpec, generation: Generation, slot: Slot, use: InstanceUse | None) -> LaunchRequest:
    """What the fleet is asked for. Where money is limited, an hour must not come to more than was counted with."""
    size = spec.resources.ladder[generation.rung]
    is_limited = spec.limits.max_cost is not None or spec.limits.max_hourly_cost is not None
    return LaunchRequest(
        instance=slot.instance,
        job=spec.name,
        generation=generation.number,
        instance_type=size.instance,
        workers=size.workers,
        cores_per_worker=spec.threads_per_worker,
        allowance_s=use.allowance_s if use is not None else None,
        zone=slot.zone,
        market=slot.market,
        max_usd_per_hour=use.usd_per_hour if use is not None and is_limited and slot.market == "spot" else None,
        count=sum(other.market == slot.market for other in generation.slots),
        beside=tuple(name for name in generation.instances if name != slot.instance),
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
