"""When a job has to stop: its deadline and its budget. Pure."""

from datetime import datetime

from orchestrator.jobs.record import JobRecord
from orchestrator.spec.models import JobSpec


def limit_reached(spec: JobSpec, record: JobRecord, now: datetime) -> str | None:
    """The limit that is reached, in words, or None."""
    limits = spec.limits
    age_s = (now - record.created_at).total_seconds()
    if limits.deadline is not None and age_s >= limits.deadline:
        return f"the deadline of {limits.deadline:g} s after submit has passed"
    spent = record.spend_usd(now)
    if limits.max_cost is not None and spent >= limits.max_cost:
        return f"${spent:.2f} are spent of max_cost ${limits.max_cost:.2f}"
    return None
