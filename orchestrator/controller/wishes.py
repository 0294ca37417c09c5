"""What people asked for, taken into the record once each. Pure."""

from orchestrator.controller.draft import Draft
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.requests import Request

REMEMBERED = 32
"""So many requests are known after they were carried out and removed: one that was sent twice may arrive late."""


def take_requests(draft: Draft) -> None:
    """Apply the requests that were not applied before, oldest first."""
    waiting, done = draft.seen.requests, draft.record.requests_done
    for request in waiting:
        if request.id not in done:
            _take(draft, request)
            done = (*done, request.id)
    still_there = {request.id for request in waiting}
    done = tuple(r for i, r in enumerate(done, start=1) if r in still_there or len(done) - i < REMEMBERED)
    if done != draft.record.requests_done:
        draft.set(requests_done=done)


def _take(draft: Draft, request: Request) -> None:
    refusal = _refusal(draft, request)
    if refusal:
        draft.event(EventKind.REQUEST_REFUSED, f"{request.kind} by {request.by}: {refusal}", **_inputs(request))
        return
    if request.kind == "cancel":
        draft.set(wanted="cancel", reason=f"cancelled by {request.by}")
    elif request.kind == "pause":
        draft.set(wanted="pause", reason=f"being paused by {request.by}")
    elif request.kind == "resume":
        draft.set(wanted="run", failures=0, losses=0, retry_at=None)
    else:
        draft.set(pinned_rung=_rung_of(draft, request.workers))
    size = "" if request.kind != "resize" else f" to {request.workers} workers" if request.workers else " automatically"
    draft.event(EventKind.REQUESTED, f"{request.kind}{size} asked for by {request.by}", **_inputs(request))


def _inputs(request: Request) -> dict[str, object]:
    return {"request": request.id, "asked": request.kind, "by": request.by, "workers": request.workers}


def _refusal(draft: Draft, request: Request) -> str | None:
    """Why a request cannot be granted, or None."""
    if draft.record.phase.over:
        return f"the job has {draft.record.phase} already"
    if draft.record.wanted == "cancel":
        return "the job is being cancelled"
    if request.kind == "pause" and draft.record.wanted == "pause":
        return "the job is paused or being paused"
    if request.kind == "resume" and draft.record.wanted == "run" and draft.record.phase is not JobPhase.PAUSED:
        return "the job is not paused"
    if request.kind == "resize" and request.workers is not None and _rung_of(draft, request.workers) is None:
        return f"no rung of the ladder has {request.workers} workers"
    return None


def _rung_of(draft: Draft, workers: int | None) -> int | None:
    rungs = draft.seen.spec.resources.ladder
    return next((i for i, rung in enumerate(rungs) if rung.world_size == workers), None)
