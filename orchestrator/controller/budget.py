"""How long an instance may live, so that a job never costs more than its budget. Pure.

Every instance is given an allowance before it is launched: so many seconds of life, which its agent keeps to, and a
timer outside it as well, whatever becomes of controller and bucket. What is spent, and what the instances that are
there may cost at the very most, together never exceed `max_cost`:

    spent + sum over uses of price x allowance <= max_cost

New instances get at most half of what is not reserved yet, so that a resize or a restart can still be paid; those that
work are given more when half of theirs is used up, half of the rest and again, as far as they need it, until it is too
little to be worth a word. Then the job is drained, early enough that what was paid for is committed. A deadline bounds
allowances too.
"""

import math
from dataclasses import dataclass

from orchestrator.jobs.instances import LEAVE_WITHIN_S
from orchestrator.jobs.record import InstanceUse, JobRecord
from orchestrator.spec.models import JobSpec
from orchestrator.spec.units import format_duration

MIN_ALLOWANCE_S = 2 * LEAVE_WITHIN_S
"""An instance that may live for less is not worth its boot."""
EXTEND_AT_LEAST_S = 60.0
DRAIN_BEFORE_S = LEAVE_WITHIN_S + 60.0
"""Workers are drained so long before their allowance is used: before their agents begin to leave by themselves."""
AFTER_DEADLINE_S = DRAIN_BEFORE_S + 240.0
"""What an instance may live past the deadline: time for the drain that the controller asks for then."""


@dataclass(frozen=True)
class Grant:
    """How long new instances may live; `refusal`: why they cannot be paid, if they cannot."""

    allowance_s: float | None
    refusal: str = ""


def unreserved_usd(spec: JobSpec, record: JobRecord) -> float:
    """What neither is spent nor can be spent by the instances that are there."""
    if spec.limits.max_cost is None:
        return math.inf
    return spec.limits.max_cost - record.spent_usd - sum(use.worst_usd for use in record.uses)


def grant(spec: JobSpec, record: JobRecord, age_s: float, count: int, usd_per_hour: float) -> Grant:
    """The allowance of so many new instances: half of what is not reserved, all of it when that is too little to share.

    An allowance is given in whole seconds: it is compared and written often.
    """
    by_deadline_s = _until_deadline_s(spec, age_s)
    per_hour = count * usd_per_hour
    if not per_hour or spec.limits.max_cost is None:
        return Grant(_whole(by_deadline_s))
    all_s = unreserved_usd(spec, record) * 3600 / per_hour
    paid_s = all_s / 2
    if paid_s < MIN_ALLOWANCE_S and not record.uses:
        paid_s = all_s
    if paid_s < MIN_ALLOWANCE_S:
        left = max(0.0, unreserved_usd(spec, record))
        return Grant(
            None,
            f"the budget of ${spec.limits.max_cost:.2f} does not pay for {format_duration(MIN_ALLOWANCE_S)} of it: "
            f"${left:.2f} are left, and it costs ${per_hour:.2f} an hour",
        )
    return Grant(_whole(min(paid_s, by_deadline_s)))


def longer_lives(
    spec: JobSpec, record: JobRecord, uses: tuple[InstanceUse, ...], age_s: float, instances: tuple[str, ...]
) -> tuple[InstanceUse, ...]:
    """The uses, of which these may live longer: as often as one of them is low and there is something left to give."""
    while any(is_low(use) for use in uses if use.instance in instances):
        by_s = can_extend(spec, record.model_copy(update={"uses": uses}), age_s, instances)
        if not by_s:
            break
        uses = extended(uses, instances, by_s)
    return uses


def can_extend(spec: JobSpec, record: JobRecord, age_s: float, instances: tuple[str, ...]) -> float:
    """By how many seconds the lives of these instances can be made longer; 0: not worth a word."""
    uses = [use for use in record.uses if use.instance in instances and use.allowance_s is not None]
    if not uses:
        return 0.0
    by_deadline_s = _until_deadline_s(spec, age_s) - min(left_s(use) for use in uses)
    per_hour = sum(use.usd_per_hour for use in uses)
    paid_s = unreserved_usd(spec, record) * 3600 / per_hour if per_hour else math.inf
    share_s = paid_s / 2 if paid_s / 2 >= EXTEND_AT_LEAST_S else paid_s
    extension_s = _whole(min(share_s, by_deadline_s)) or 0.0
    return extension_s if extension_s >= EXTEND_AT_LEAST_S else 0.0


def extended(uses: tuple[InstanceUse, ...], instances: tuple[str, ...], by_s: float) -> tuple[InstanceUse, ...]:
    """The same uses, of which these may live longer."""
    return tuple(
        use.model_copy(update={"allowance_s": use.allowance_s + by_s})
        if use.instance in instances and use.allowance_s is not None
        else use
        for use in uses
    )


def left_s(use: InstanceUse) -> float:
    """How long an instance may still live, when time was last counted."""
    return math.inf if use.allowance_s is None else use.allowance_s - use.lived_s


def is_low(use: InstanceUse) -> bool:
    """Whether it is time to give more."""
    return use.allowance_s is not None and left_s(use) < max(use.allowance_s / 2, 2 * DRAIN_BEFORE_S)


def _until_deadline_s(spec: JobSpec, age_s: float) -> float:
    if spec.limits.deadline is None:
        return math.inf
    return max(0.0, spec.limits.deadline - age_s) + AFTER_DEADLINE_S


def _whole(seconds: float) -> float | None:
    return None if math.isinf(seconds) else float(math.floor(seconds))
