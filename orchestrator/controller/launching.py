"""What follows when a launch is refused or an instance does not come up: the next offer, or a wait. Pure.

A generation is placed whole, for all of it is in one zone: a refusal moves all of it to the next offer, under new
names, for a name is the token of one launch and no other. When every offer was refused it waits, and begins with the
best one again; where workers train meanwhile, they go on as they are.
"""

from datetime import timedelta

from orchestrator.controller.draft import Draft
from orchestrator.controller.facts import leave_alone
from orchestrator.controller.observation import LaunchFailure
from orchestrator.controller.offers import bring_back, set_aside, where
from orchestrator.controller.placement import Choice, choose, inputs_of, new_slots, next_name, release, use
from orchestrator.controller.recovery import MAX_BACKOFF_S, QUOTA_BACKOFF_S, backoff_s, does_not_come_up
from orchestrator.controller.rungs import other_rung, preferred_rung
from orchestrator.fleets.protocol import InstanceState
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.jobs.record import Generation, Slot

CAPACITY_RETRY_S = 5.0
"""After so long on a fleet without zones; else so long for each offer, and twice that each time."""
MAX_NO_SHOWS = 3


def check_upcoming(draft: Draft) -> None:
    """React to launches that were refused and to new instances that did not come up."""
    upcoming = draft.record.upcoming
    if upcoming is None:
        return
    for slot in upcoming.slots:
        failure = draft.seen.view(slot.instance).launch_failure
        if failure is not None and not slot.seen:
            _refused(draft, upcoming, slot, failure)
            return
        if does_not_come_up(slot, draft.seen.view(slot.instance)):
            _did_not_come_up(draft, upcoming, slot)
            return
    if any(instance in draft.record.retired for instance in upcoming.instances):
        release(draft, keep_running=True)  # who was to work on did not end well


def wait_for_capacity(draft: Draft, rung: int, reason: str, seconds: float = CAPACITY_RETRY_S) -> None:
    """Ask again in a while; that is told once."""
    draft.set(retry_at=draft.now + timedelta(seconds=seconds))
    if reason != draft.record.reason:
        draft.set(reason=reason)
        draft.event(EventKind.NO_CAPACITY, reason, rung=rung, permanent=False)


def wait_for_any(draft: Draft, rung: int, why: str) -> None:
    """No offer may be taken now, and nothing runs: those that were refused are asked for again after a while."""
    kind = draft.seen.spec.resources.ladder[rung].instance
    bring_back(draft, kind, "capacity")
    is_quota = bool(draft.seen.offers.get(kind)) and choose(draft, rung, 1).kind == "capacity"
    if is_quota:
        bring_back(draft, kind, "quota")
    wait_for_capacity(draft, rung, f"waiting for capacity: {why}", QUOTA_BACKOFF_S if is_quota else CAPACITY_RETRY_S)


def _refused(draft: Draft, upcoming: Generation, slot: Slot, failure: LaunchFailure) -> None:
    if failure.kind == "fatal":
        _is_fatal(draft, upcoming, failure.message)
        return
    set_aside(draft, _type_of(draft, upcoming), slot, failure.kind)
    place = where(slot)
    _move_on(draft, upcoming, slot, f"{place}: {failure.message}" if place else failure.message, failure.kind)


def _is_fatal(draft: Draft, upcoming: Generation, why: str) -> None:
    if draft.running is not None:
        _call_off(draft, upcoming, why, permanent=True)
        return
    _let_go(draft, upcoming)
    release(draft)
    draft.go(JobPhase.FAILED, f"no instance can be launched: {why}")
    draft.event(EventKind.FAILED, draft.record.reason, rung=upcoming.rung, permanent=True)


def _move_on(draft: Draft, upcoming: Generation, slot: Slot, why: str, refusal: str) -> None:
    """All of it goes to the next offer. Where nothing runs, it takes what a move wanted of one market from any."""
    _let_go(draft, upcoming)
    if draft.running is None:
        upcoming = upcoming.model_copy(update={"market": None})
    size = draft.seen.spec.resources.ladder[upcoming.rung]
    choice = choose(draft, upcoming.rung, size.count, market=upcoming.market)
    if choice.kind == "capacity" and draft.running is None:
        _wait_for_all(draft, upcoming, why)
    elif choice.offer is not None:
        _place_anew(draft, upcoming, choice)
        if not upcoming.refused_rounds:
            message = f"{why}; {where(choice.offer)} is tried next"
            tried = {"zone": slot.zone, "market": slot.market, "refusal": refusal}
            told = {f"next_{name}": value for name, value in inputs_of(choice.offer).items()}
            draft.event(EventKind.NO_CAPACITY, message, rung=upcoming.rung, permanent=False, **tried, **told)
    elif draft.running is not None:
        _call_off(draft, upcoming, why if choice.kind == "capacity" else choice.refusal)
    else:
        release(draft)  # what can be paid, and when, is looked at anew


def _wait_for_all(draft: Draft, upcoming: Generation, why: str) -> None:
    """Every offer was refused: another rung is tried. After a while it begins with the first again.

    One over a quota is asked for again only after long.
    """
    other = other_rung(draft, upcoming.rung, refused_now=True)
    if other is not None:
        rung, choice = other
        _place_anew(draft, upcoming.model_copy(update={"rung": rung}), choice)
        _tell_next(draft, upcoming, why, rung, choice)
        return
    kinds = _types(draft)
    offers = max(1, sum(len(draft.seen.offers.get(kind, ())) for kind in kinds))
    has_zones = any(slot.zone for slot in upcoming.slots)
    wait_s = min(MAX_BACKOFF_S, CAPACITY_RETRY_S * (offers * 2.0**upcoming.refused_rounds if has_zones else 1))
    for kind in kinds:
        bring_back(draft, kind, "capacity")
    rung, choice = _first_again(draft)
    if choice.kind == "capacity":
        wait_s = QUOTA_BACKOFF_S
        for kind in kinds:
            bring_back(draft, kind, "quota")
        rung, choice = _first_again(draft)
    if choice.offer is None:
        release(draft)
    else:
        rounds = min(upcoming.refused_rounds + 1, 10)
        _place_anew(draft, upcoming.model_copy(update={"rung": rung, "refused_rounds": rounds}), choice)
    wait_for_capacity(draft, rung, f"waiting for capacity: {why}", wait_s)


def _first_again(draft: Draft) -> tuple[int, Choice]:
    """The rung that is asked for first; another where that one may not be asked for yet."""
    rung = preferred_rung(draft)
    choice = choose(draft, rung, draft.seen.spec.resources.ladder[rung].count)
    other = other_rung(draft, rung) if choice.kind == "capacity" else None
    return other or (rung, choice)


def _types(draft: Draft) -> list[str]:
    """Of the instances that the job may run on."""
    ladder = draft.seen.spec.resources.ladder
    return list(
        dict.fromkeys(ladder[rung].instance for rung in (*draft.seen.spec.allowed_rungs, preferred_rung(draft)))
    )


def _tell_next(draft: Draft, upcoming: Generation, why: str, rung: int, choice: Choice) -> None:
    if choice.offer is None or upcoming.refused_rounds:
        return
    size = draft.seen.spec.resources.ladder[rung]
    place = where(choice.offer)
    message = f"{why}; {size.count} × {size.instance}{f', {place},' if place else ''} is tried next"
    told = {f"next_{name}": value for name, value in inputs_of(choice.offer).items()}
    draft.event(EventKind.NO_CAPACITY, message, rung=upcoming.rung, permanent=False, next_rung=rung, **told)


def _place_anew(draft: Draft, upcoming: Generation, choice: Choice) -> None:
    """The same generation by another offer, under new names."""
    assert choice.offer is not None
    count = draft.seen.spec.resources.ladder[upcoming.rung].count
    names = [next_name(draft, upcoming, number) for number in range(count)]
    use(draft, choice.offer, tuple(names), choice.granted.allowance_s)
    draft.set(upcoming=upcoming.model_copy(update={"slots": new_slots(names, choice.offer)}))


def _let_go(draft: Draft, upcoming: Generation) -> None:
    """None of its instances is wanted any more. One that certainly never was is not paid for, nor waited for."""
    never = {i for i in upcoming.instances if draft.seen.view(i).never_was}
    if never:
        draft.count_time()
        draft.set(uses=tuple(use for use in draft.record.uses if use.instance not in never))
    at_work = draft.running.instances if draft.running is not None else ()
    draft.retire(tuple(i for i in upcoming.instances if i not in never and i not in at_work))
    kept = tuple(slot for slot in upcoming.slots if slot.instance not in never)
    draft.set(upcoming=upcoming.model_copy(update={"slots": kept}))


def _call_off(draft: Draft, upcoming: Generation, why: str, *, permanent: bool = False) -> None:
    """What cannot be had while workers train: they go on as they are, and it is left alone for a while."""
    _let_go(draft, upcoming)
    release(draft, keep_running=True)
    if upcoming.cause == "move":
        draft.set(spot_tries=draft.record.spot_tries + 1, spot_tried_age_s=draft.age_s)
        message = f"spot instances cannot be had: {why}; training goes on on demand"
    else:
        leave_alone(draft, upcoming.rung, permanent=permanent)
        goes_on = draft.running is None or draft.running.phase is not GenerationPhase.DRAINING
        message = f"rung {upcoming.rung} cannot be had: {why}{'; training goes on as it is' if goes_on else ''}"
    draft.event(EventKind.NO_CAPACITY, message, rung=upcoming.rung, permanent=permanent)


def _did_not_come_up(draft: Draft, upcoming: Generation, slot: Slot) -> None:
    """Try another instance a few times, in the same zone if there are others; then count it as a failure."""
    number = upcoming.slots.index(slot)
    draft.retire((slot.instance,))
    if slot.market == "spot" and draft.seen.view(slot.instance).state is InstanceState.GONE:
        set_aside(draft, _type_of(draft, upcoming), slot, "interrupted")
    no_shows = upcoming.no_shows + 1
    upcoming = upcoming.model_copy(update={"no_shows": no_shows})
    zone = slot.zone if len(upcoming.slots) > 1 else None
    choice = choose(draft, upcoming.rung, 1, zone=zone, market=upcoming.market)
    if no_shows < MAX_NO_SHOWS and choice.offer is not None:
        [new] = new_slots([next_name(draft, upcoming, number)], choice.offer)
        use(draft, choice.offer, (new.instance,), choice.granted.allowance_s)
        slots = (*upcoming.slots[:number], new, *upcoming.slots[number + 1 :])
        draft.set(upcoming=upcoming.model_copy(update={"slots": slots}))
        message = f"{slot.instance} did not come up; trying another"
        draft.event(EventKind.INSTANCE_LOST, message, attempt=no_shows, **inputs_of(choice.offer))
        return
    why = f"{slot.instance} did not come up after {no_shows} {'tries' if no_shows > 1 else 'try'}"
    if no_shows < MAX_NO_SHOWS:
        why = f"{slot.instance} did not come up, and {choice.refusal}"
    if draft.running is not None:
        _call_off(draft, upcoming, why)
        return
    _let_go(draft, upcoming)
    release(draft)
    failures = draft.record.failures + 1
    draft.set(failures=failures, reason=why, retry_at=draft.now + timedelta(seconds=backoff_s(failures)))
    draft.event(EventKind.INSTANCE_LOST, why, failures=failures)


def _type_of(draft: Draft, generation: Generation) -> str:
    return draft.seen.spec.resources.ladder[generation.rung].instance
