"""What a job may cost yet, what it may lose, and when it is ended: answers to what a person would ask. Pure."""

from collections.abc import Iterator

from orchestrator.controller import facts
from orchestrator.controller.budget import left_s
from orchestrator.controller.draft import Draft
from orchestrator.jobs.record import InstanceUse
from orchestrator.reading import text
from orchestrator.reading.answers import Answer


def what_is_safe(draft: Draft) -> Iterator[Answer]:
    """How far it would fall back if everything was lost now."""
    beats = (view.heartbeat for view in draft.seen.instances.values())
    steps = [beat.progress.step for beat in beats if beat is not None and beat.progress is not None]
    step = max(steps, default=draft.record.progress.step if draft.record.progress is not None else 0)
    committed = draft.seen.head.step if draft.seen.head is not None else 0
    if step or committed:
        again = f", {text.count(step - committed, 'step')} to do again if all were lost now" if step > committed else ""
        yield Answer("what is safe", f"step {committed:,}{again}")


def what_ends_it(draft: Draft) -> Iterator[Answer]:
    """How near it is to each of its limits."""
    record, limits = draft.record, draft.seen.spec.limits
    if record.failures:
        yield Answer("failures", f"{record.failures} in a row without progress, of at most {limits.max_failures}")
    if record.losses:
        yield Answer("losses", f"its instances were lost {text.count(record.losses, 'time')} in a row without progress")
    yield from _money(draft)
    if limits.deadline is not None and not record.phase.over:
        deadline_s = limits.deadline - draft.age_s
        yield Answer("deadline", f"in {text.duration(deadline_s)}" if deadline_s > 0 else "passed")


def what_cannot_be_had(draft: Draft) -> Iterator[Answer]:
    """Sizes that are left alone for a while."""
    for rung in sorted(facts.unavailable_rungs(draft)):
        workers = text.count(draft.seen.spec.resources.ladder[rung].world_size, "worker")
        seconds = (draft.record.unavailable_rungs[rung] - draft.now).total_seconds()
        how_long = "for good" if seconds > facts.RUNG_UNAVAILABLE_S else f"for another {text.duration(seconds)}"
        yield Answer("what is left alone", f"{workers} (rung {rung}), {how_long}")


def _money(draft: Draft) -> Iterator[Answer]:
    record, max_cost, uses = draft.record, draft.seen.spec.limits.max_cost, draft.uses_now()
    spent_usd = record.spent_usd + sum(use.cost_usd(use.lived_s) for use in uses)
    if max_cost is not None:
        more = ""
        if uses:
            at_most_usd = sum(use.worst_usd - use.cost_usd(use.lived_s) for use in uses)
            more = f"; what is there now may cost {text.usd(at_most_usd)} more at the very most"
        yield Answer("budget", f"{text.usd(spent_usd)} of {text.usd(max_cost)} spent{more}")
    elif spent_usd:
        yield Answer("budget", f"{text.usd(spent_usd)} spent, without a limit (limits.max_cost)")
    hourly_usd = draft.seen.spec.limits.max_hourly_cost
    if hourly_usd is not None and not record.phase.over:
        now_usd = sum(use.usd_per_hour for use in uses)
        yield Answer("an hour", f"{text.usd(now_usd)} now; sizes dearer than {text.usd(hourly_usd)} are not chosen")
    if uses:
        yield Answer("when it costs no more", _last_to_end(uses))


def _last_to_end(uses: tuple[InstanceUse, ...]) -> str:
    """What happens to the instances if no controller ever comes back."""
    endless = [use.instance for use in uses if use.allowance_s is None]
    if endless:
        return "without limits.max_cost or limits.deadline its instances live until the job is over"
    longest_s = max(left_s(use) for use in uses)
    return f"its instances end themselves within {text.duration(longest_s)}, unless a controller gives them more"
