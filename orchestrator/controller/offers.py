"""Which of a fleet's offers may be taken now, best first. Pure.

The fleet orders them by price. What the record has set aside comes on top: an offer that was refused is left out for a
while, and one whose instance was taken back lately comes last of its market. Time is the job's age: no clock that jumps
brings an offer back too early, or keeps it away.
"""

from collections.abc import Sequence

from orchestrator.controller.draft import Draft
from orchestrator.fleets.protocol import Offer
from orchestrator.jobs.record import SetAside, Slot

ASIDE_S = {"capacity": 300.0, "quota": 1800.0, "interrupted": 1800.0}
"""For how long an offer is set aside. All that are left out come back earlier when no other can be had."""


def available(offers: Sequence[Offer], aside: Sequence[SetAside], age_s: float) -> list[Offer]:
    """Those that may be asked for now, best first."""
    now = [each for each in aside if age_s < each.until_age_s]
    left_out = [each for each in now if each.why != "interrupted"]
    last = [each for each in now if each.why == "interrupted"]
    markets = list(dict.fromkeys(offer.market for offer in offers))
    free = (offer for offer in offers if not any(_covers(each, offer) for each in left_out))
    return sorted(free, key=lambda o: (markets.index(o.market), any(_covers(each, o) for each in last)))


def set_aside(draft: Draft, instance_type: str, slot: Slot, why: str) -> None:
    """The offer that a slot was to be had by is set aside; where a quota is used up, its market in all zones."""
    new = SetAside.model_validate(
        {
            "instance_type": instance_type,
            "zone": None if why == "quota" else slot.zone,
            "market": slot.market,
            "why": why,
            "until_age_s": draft.age_s + ASIDE_S[why],
        }
    )
    same = new.model_dump(exclude={"until_age_s"})
    kept = [each for each in _current(draft) if each.model_dump(exclude={"until_age_s"}) != same]
    draft.set(aside=(*kept, new))


def bring_back(draft: Draft, instance_type: str, why: str) -> None:
    """What was set aside of a type for this reason may be asked for again."""
    kept = (each for each in _current(draft) if (each.instance_type, each.why) != (instance_type, why))
    draft.set(aside=tuple(kept))


def where(slot: Slot | Offer) -> str:
    """Zone and market, for a person; empty where a fleet has no zones."""
    market = "spot" if slot.market == "spot" else "on demand"
    return f"{market} in {slot.zone}" if slot.zone else ""


def _current(draft: Draft) -> list[SetAside]:
    return [each for each in draft.record.aside if draft.age_s < each.until_age_s]


def _covers(aside: SetAside, offer: Offer) -> bool:
    same = (aside.instance_type, aside.market) == (offer.instance_type, offer.market)
    return same and aside.zone in (None, offer.zone)
