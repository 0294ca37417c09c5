"""The 80/30 rule: one rung up when the GPUs were busy for a whole window, one down when they idled for one.

Pure. The trigger is the mean utilisation over the window's samples of all instances of the generation. Samples are
counted, one a second, so no clocks of two machines are compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any, Literal

from orchestrator.jobs.instances import Utilization
from orchestrator.spec.models import JobSpec

SAMPLES_PER_SECOND = 1.0


@dataclass(frozen=True)
class ScalingInputs:
    """Everything that the rule looks at."""

    rung: int
    utilizations: tuple[Utilization | None, ...]
    """One an instance of the generation."""
    since_resize_s: float | None
    unavailable: frozenset[int] = frozenset()
    """Rungs that could not be had lately."""


@dataclass(frozen=True)
class ScalingDecision:
    """What to do and why; `verdict` holds also when nothing is done."""

    verdict: Literal["up", "down", "stay"]
    to_rung: int
    reason: str
    inputs: dict[str, Any]


def decide_scaling(spec: JobSpec, seen: ScalingInputs) -> ScalingDecision:
    """Apply the gates in order: enough samples, trigger, bounds, cooldown, availability."""
    scaling = spec.scaling
    needed = max(1, round(scaling.window * SAMPLES_PER_SECOND))
    skipped = round(scaling.warm_up * SAMPLES_PER_SECOND)
    mean = window_mean(seen.utilizations, skipped, needed)
    inputs = {
        "utilization_percent": None if mean is None else round(mean, 1),
        "sources": sorted({u.source for u in seen.utilizations if u}),
        "samples": [0 if u is None else u.count for u in seen.utilizations],
        "window_s": scaling.window,
        "warm_up_s": scaling.warm_up,
        "up_above": scaling.up_above,
        "down_below": scaling.down_below,
        "rung": seen.rung,
        "allowed_rungs": spec.allowed_rungs,
        "since_resize_s": seen.since_resize_s,
        "cooldown_s": scaling.cooldown,
        "unavailable_rungs": sorted(seen.unavailable),
    }

    def stay(reason: str) -> ScalingDecision:
        return ScalingDecision("stay", seen.rung, reason, inputs)

    if mean is None:
        return stay(f"fewer than {needed} samples since the warm-up")
    if mean > scaling.up_above:
        verdict, target = "up", next((r for r in spec.allowed_rungs if r > seen.rung), None)
        said = f"utilisation {mean:.1f} % is above {scaling.up_above:g} % over {scaling.window:g} s"
    elif mean < scaling.down_below:
        verdict, target = "down", next((r for r in reversed(spec.allowed_rungs) if r < seen.rung), None)
        said = f"utilisation {mean:.1f} % is below {scaling.down_below:g} % over {scaling.window:g} s"
    else:
        return stay(f"utilisation {mean:.1f} % is between {scaling.down_below:g} and {scaling.up_above:g} %")
    if target is None:
        return stay(f"{said}, and there is no {'larger' if verdict == 'up' else 'smaller'} rung within bounds")
    if target in seen.unavailable:
        return stay(f"{said}, but rung {target} could not be had lately")
    if seen.since_resize_s is not None and seen.since_resize_s < scaling.cooldown:
        return stay(
            f"{said}, but the last resize was {seen.since_resize_s:.0f} s ago (cooldown {scaling.cooldown:g} s)"
        )
    old, new = spec.resources.ladder[seen.rung], spec.resources.ladder[target]
    reason = f"{said}: from {old.world_size} to {new.world_size} worker{'s' if new.world_size > 1 else ''}"
    return ScalingDecision("up" if verdict == "up" else "down", target, reason, inputs)


def window_mean(utilizations: Sequence[Utilization | None], skipped: int, needed: int) -> float | None:
    """Mean over the last `needed` samples of every instance; None if one has too few after the first `skipped`."""
    means = []
    for utilization in utilizations:
        if utilization is None or utilization.count - skipped < needed or len(utilization.percents) < needed:
            return None
        means.append(fmean(utilization.percents[-needed:]))
    return fmean(means) if means else None


def since_s(earlier: datetime | None, now: datetime) -> float | None:
    """Seconds between two readings of the controller's clock; never negative, for clocks jump."""
    return None if earlier is None else max(0.0, (now - earlier).total_seconds())
