"""When a job has to stop: its deadline and its budget. Pure."""

from orchestrator.controller.budget import DRAIN_BEFORE_S, EXTEND_AT_LEAST_S, left_s
from orchestrator.jobs.record import InstanceUse
from orchestrator.spec.models import JobSpec


def limit_reached(
    spec: JobSpec,
    *,
    age_s: float,
    spent_usd: float,
    working: tuple[InstanceUse, ...],
    others: tuple[InstanceUse, ...] = (),
) -> str | None:
    """The limit that is reached, in words, or None.

    `working`: the instances whose workers train; `others`: those that come up or go. What is reserved for these may yet
    pay for those, or for the next: as long as that is so, those who work leave by themselves when their time is over.
    """
    limits = spec.limits
    if limits.deadline is not None and age_s >= limits.deadline:
        return f"the deadline of {limits.deadline:g} s after submit has passed"
    if limits.max_cost is None:
        return None
    returned_usd = sum(use.worst_usd - use.cost_usd(use.lived_s) for use in others)
    needed_usd = EXTEND_AT_LEAST_S * sum(use.usd_per_hour for use in working) / 3600
    if any(left_s(use) < DRAIN_BEFORE_S for use in working) and returned_usd < needed_usd:
        return f"max_cost ${limits.max_cost:.2f} pays for no more: ${spent_usd:.2f} are spent, the rest to end it well"
    return None
