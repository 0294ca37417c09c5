"""When a generation that trains should do so elsewhere, on the same rung: on spot again, or away from a risk. Pure.

The new instances come up while the old ones train, as in a resize. Where they cannot be had, training goes on, and it
is left alone for a while that grows with each try.
"""

from dataclasses import dataclass
from typing import Any

from orchestrator.controller.draft import Draft
from orchestrator.controller.facts import unavailable_rungs
from orchestrator.controller.offers import where
from orchestrator.controller.placement import choose
from orchestrator.fleets.protocol import Market
from orchestrator.jobs.record import Cause, Generation, Slot

TRY_SPOT_AFTER_S = 600.0
TRY_SPOT_AT_LEAST_EVERY_S = 6 * 3600.0


@dataclass(frozen=True)
class Move:
    """A move, and why."""

    cause: Cause
    reason: str
    market: Market | None
    inputs: dict[str, Any]
    leaves: Slot | None = None
    """What it moves away from: that offer comes last for a while."""


def wanted_move(draft: Draft, running: Generation) -> Move | None:
    """The move that is due, if one is."""
    return _away(draft, running) or _back_to_spot(draft, running)


def note_market(draft: Draft, started: Generation) -> None:
    """A generation begins: from now on it is waited before spot is tried, or it runs there."""
    is_spot = all(slot.market == "spot" for slot in started.slots)
    tries = 0 if is_spot else draft.record.spot_tries
    draft.set(spot_tries=tries, spot_tried_age_s=None if is_spot else draft.age_s)


def _away(draft: Draft, running: Generation) -> Move | None:
    """What the cloud says it may soon take back is left before it does."""
    if running.rung in unavailable_rungs(draft):
        return None
    for slot in running.slots:
        beat = draft.seen.view(slot.instance).heartbeat
        # Who is certain to go beside others drains already, and so do they (see `decide`).
        if beat is None or not (beat.at_risk or (beat.ends_at is not None and len(running.slots) == 1)):
            continue
        reason = f"{slot.instance} may soon be taken back: another is launched meanwhile"
        return Move("preemption", reason, None, {"at_risk": slot.instance}, leaves=slot)
    return None


def _back_to_spot(draft: Draft, running: Generation) -> Move | None:
    """What runs on demand, for want of spot instances, goes back to them once they may be had again for less."""
    record, spec = draft.record, draft.seen.spec
    dear = {slot.instance for slot in running.slots if slot.market != "spot"}
    if spec.resources.market != "spot_then_on_demand" or not dear or record.spot_tried_age_s is None:
        return None
    wait_s = min(TRY_SPOT_AT_LEAST_EVERY_S, TRY_SPOT_AFTER_S * 2.0 ** min(record.spot_tries, 10))
    since_s = draft.age_s - record.spot_tried_age_s
    if since_s < wait_s:
        return None
    offer = choose(draft, running.rung, len(running.slots), market="spot").offer
    paid_usd = max((use.usd_per_hour for use in record.uses if use.instance in dear), default=0.0)
    if offer is None or offer.usd_per_hour >= paid_usd:
        return None
    reason = f"{where(offer)} for ${offer.usd_per_hour:.3f} an hour is tried while training goes on for ${paid_usd:.3f}"
    inputs = {"paid_usd_per_hour": paid_usd, "spot_tries": record.spot_tries}
    return Move("move", reason, "spot", {**inputs, "since_tried_s": round(since_s, 1)})
