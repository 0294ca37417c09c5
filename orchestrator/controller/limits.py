"""When a job has to stop: its deadline and its budget. Pure."""

from orchestrator.controller.budget import DRAIN_BEFORE_S, left_s
from orchestrator.jobs.record import InstanceUse
from orchestrator.spec.models import JobSpec


def limit_reached(spec: JobSpec, *, age_s: float, spent_usd: float, working: tuple[InstanceUse, ...]) -> str | None:
    """The limit that is reached, in words, or None. `working`: the instances whose workers train."""
    limits = spec.limits
    if limits.deadline is not None and age_s >= limits.deadline:
        return f"the deadline of {limits.deadline:g} s after submit has passed"
    if limits.max_cost is None:
        return None
    if spent_usd >= limits.max_cost:
        return f"${spent_usd:.2f} are spent of max_cost ${limits.max_cost:.2f}"
    if any(left_s(use) < DRAIN_BEFORE_S for use in working):
        return f"max_cost ${limits.max_cost:.2f} pays for no more: ${spent_usd:.2f} are spent, the rest to end it well"
    return None
