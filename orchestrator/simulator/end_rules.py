"""Invariants of jobs that fail: each needs a cause that lies outside elastic, or a limit that is really reached.

- Of a deadline: a job is as old as real time says. A leader that has taken over, or does not know whether its last
  version was written, counts by wall clocks once: up to an hour too much, and only where a clock was wrong.
- Of a budget: what was launched, each for as long as the record named it, or at its worst if the record still does,
  leaves less than the next instances need; where those that work are drained for it, it is at least `SHARE` of it.
  An instance that lived through a change of leaders may be charged its allowance, for the new leader may never have
  heard how long it lived.
- Of failures and losses: no more than generations, and no more than faults that can end one.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from orchestrator.controller.budget import MIN_ALLOWANCE_S
from orchestrator.controller.decide import MAX_LOSSES
from orchestrator.controller.facts import HEARD_LATE_S
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import MAX_UNCOUNTED_S
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.violation import Violation
from orchestrator.spec.models import JobSpec

_ENDING = (
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
    Fault.STALLED,
    Fault.DISK_FULL,
    Fault.OUTAGE,
    Fault.PARTITION,
    Fault.ROT,
    Fault.PARTIAL_UPLOAD,
    Fault.CORRUPTED_UPLOAD,
    Fault.STALE_DESCRIBE,
    Fault.PREEMPTION,
    Fault.PREEMPTION_NOTICE,
    Fault.NEVER_REPORTS,
    Fault.AGENT_DIES,
    Fault.RANK_CRASH,
    Fault.RANK_STALL,
)
"""Faults that can end a generation, or keep an instance from coming up."""
_TOLERANCE_S = 5.0
SHARE = 0.4
"""Of its budget, a job that ends because of it has spent or reserved at least so much: the first grant is half."""


@dataclass
class _Use:
    """An instance that costs money, by the versions of the record."""

    since_s: float
    usd_per_hour: float
    allowance_s: float
    left_s: float | None = None
    led_by: set[int] = field(default_factory=set)

    def charged_usd(self) -> float:
        """What it may have been charged at most."""
        lived_s = self.allowance_s
        if self.left_s is not None and len(self.led_by) == 1:
            # the controller adds so much where it cannot know when an instance ended
            lived_s = min(lived_s, self.left_s - self.since_s + HEARD_LATE_S + _TOLERANCE_S)
        return self.usd_per_hour * lived_s / 3600


@dataclass
class Ends:
    """What justifies the end of one job."""

    spec: JobSpec
    usd_per_hour: float
    excess_s: float = 0.0
    """How much older than it is the job was made by wrong clocks."""
    _uses: dict[str, _Use] = field(default_factory=dict)
    _record: dict[str, Any] = field(default_factory=dict)

    def record_written(self, by: str, job: str, new: dict[str, Any], lived_s: float, now_s: float) -> None:
        """A new version of the record, of a job that was submitted `lived_s` ago. Raises Violation."""
        old, self._record = self._record, new
        self._follow_age(by, job, new, lived_s)
        self._follow_uses(new, now_s)
        if new["limit"] and not old.get("limit") and "deadline" not in new["limit"]:
            self._check_share(by, job, new["limit"])
        elif new["phase"] == JobPhase.FAILED and old.get("phase") != JobPhase.FAILED:
            self._check_failed(by, job, new)

    def _follow_age(self, by: str, job: str, new: dict[str, Any], lived_s: float) -> None:
        ahead_s = new["age_s"] - lived_s
        if ahead_s > self.excess_s + MAX_UNCOUNTED_S + _TOLERANCE_S:
            detail = f"{by}: {job} is {lived_s:.0f} s old, not {new['age_s']:.0f} s"
            raise Violation("a job is as old as time says", detail)
        if ahead_s > self.excess_s + _TOLERANCE_S:
            self.excess_s = ahead_s

    def _follow_uses(self, new: dict[str, Any], now_s: float) -> None:
        named = {use["instance"]: use for use in new["uses"]}
        for name, use in named.items():
            allowance_s = use["allowance_s"] if use["allowance_s"] is not None else float("inf")
            known = self._uses.setdefault(name, _Use(now_s, use["usd_per_hour"], allowance_s))
            known.allowance_s = allowance_s
            known.led_by.add(new["epoch"])
        for name, known in self._uses.items():
            if name not in named and known.left_s is None:
                known.left_s = now_s
                known.led_by.add(new["epoch"])

    def _check_failed(self, by: str, job: str, new: dict[str, Any]) -> None:
        limits = self.spec.limits
        if new["limit"]:
            if "deadline" in new["limit"] and (limits.deadline is None or new["age_s"] < limits.deadline):
                raise Violation("a failure is justified", f"{by}: {job} at {new['age_s']:.0f} s: {new['limit']}")
        elif new["failures"] > limits.max_failures or new["losses"] > MAX_LOSSES:
            if new["failures"] + new["losses"] > new["last_generation"]:
                detail = f"{new['failures']} failures, {new['losses']} losses of {new['last_generation']}"
                raise Violation("a failure is justified", f"{by}: {job}: {detail} generations")
        else:
            self._check_budget(by, job, new["reason"], MIN_ALLOWANCE_S * (2 if new["uses"] else 1))

    def _check_budget(self, by: str, job: str, why: str, needed_s: float) -> None:
        """There is no money left for so many seconds of the largest rung."""
        max_cost = self.spec.limits.max_cost
        count = max(rung.count for rung in self.spec.resources.ladder)
        charged_usd = sum(use.charged_usd() for use in self._uses.values())
        if max_cost is None or max_cost - charged_usd > self.usd_per_hour * (count * needed_s + _TOLERANCE_S) / 3600:
            detail = f"{by}: {job}: at most ${charged_usd:.4f} of {max_cost} are spent or reserved: {why}"
            raise Violation("a failure is justified", detail)

    def _check_share(self, by: str, job: str, why: str) -> None:
        """A leader that has just taken over may hold an instance for older than it is: only so much is certain."""
        max_cost = self.spec.limits.max_cost
        charged_usd = sum(use.charged_usd() for use in self._uses.values())
        if max_cost is None or charged_usd < SHARE * max_cost:
            detail = f"{by}: {job}: at most ${charged_usd:.4f} of {max_cost} are spent or reserved: {why}"
            raise Violation("a failure is justified", detail)

    def check_end(self, job: str, faults: Counter[Fault]) -> None:
        """All is over: whatever went wrong was made to go wrong. Raises Violation."""
        record = self._record
        if self.excess_s and not faults[Fault.SKEW] and not faults[Fault.JUMP]:
            raise Violation(
                "a job is as old as time says", f"{job}: {self.excess_s:.0f} s more, and no clock was wrong"
            )
        if record["phase"] == JobPhase.FAILED and not record["limit"]:
            injected = sum(faults[fault] for fault in _ENDING)
            if record["failures"] > injected:
                detail = f"{job}: {record['failures']} failures, and {injected} faults: {record['reason']}"
                raise Violation("a failure is justified", detail)
