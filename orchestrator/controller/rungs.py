"""On which rung a job goes on when nothing of it runs: the one that it had, or another that can be had. Pure."""

from orchestrator.controller.draft import Draft
from orchestrator.controller.facts import unavailable_rungs
from orchestrator.controller.offers import bring_back
from orchestrator.controller.placement import Choice, choose, why_too_dear


def preferred_rung(draft: Draft) -> int:
    """The one that a person wants, else the one that it had last, else the first; the nearest that is not too dear."""
    record, last = draft.record, draft.record.generation
    if record.pinned_rung is not None:
        return record.pinned_rung
    rung = last.rung if last is not None else draft.seen.spec.allowed_rungs[0]
    if not why_too_dear(draft, rung):
        return rung
    payable = [r for r in draft.seen.spec.allowed_rungs if not why_too_dear(draft, r)]
    smaller = [r for r in payable if r < rung]
    return smaller[-1] if smaller else next(iter(payable), rung)


def other_rung(draft: Draft, rung: int, *, refused_now: bool = False) -> tuple[int, Choice] | None:
    """Another that may be asked for now: as large or smaller ones first, the nearest of them, and larger ones last.

    `refused_now`: every offer of this one was refused just now. That says nothing of fewer instances of its type.
    """
    if draft.record.pinned_rung is not None:
        return None
    ladder, unavailable = draft.seen.spec.resources.ladder, unavailable_rungs(draft)
    size = ladder[rung]
    others = [r for r in draft.seen.spec.allowed_rungs if r != rung and r not in unavailable]
    others.sort(key=lambda r: (ladder[r].world_size > size.world_size, abs(ladder[r].world_size - size.world_size)))
    for other in others:
        if refused_now and ladder[other].instance == size.instance and ladder[other].count < size.count:
            bring_back(draft, size.instance, "capacity")
            bring_back(draft, size.instance, "quota")
        choice = choose(draft, other, ladder[other].count)
        if choice.offer is not None:
            return other, choice
    return None
