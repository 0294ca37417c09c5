"""Invariants of money and of jobs that fail: each failure needs a cause outside elastic, or a limit that is reached.

- Of a deadline: a job is as old as real time says. Only the first version that a leader writes may count by wall
  clocks, up to an hour too much, and only where a clock was wrong.
- Of money: an instance that leaves the record is charged for what it cost. One that the cloud has forgotten meanwhile
  may be charged for its allowance.
- Of a budget: what is spent and reserved leaves less than the next instances need; where those that work are drained
  for it, their time is all but over, and what others still hold would not make it longer.
- Of failures and losses: no more than generations, and no more than what can end one: faults, and boots that take
  longer than a small budget lets the others wait.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.controller.budget import DRAIN_BEFORE_S, EXTEND_AT_LEAST_S, MIN_ALLOWANCE_S
from orchestrator.controller.decide import MAX_LOSSES
from orchestrator.jobs.instances import LEAVE_WITHIN_S
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import MAX_UNCOUNTED_S
from orchestrator.simulator.cloud import FORGOTTEN_AFTER_S, ON_DEMAND_USD, Instance
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
    Fault.LAUNCH_STALLED,
    Fault.CLOUD_OUTAGE,
    Fault.DAEMON_AWAY,
)
"""Faults that can end a generation, keep an instance from coming up, or have those that are ready wait too long."""
_ORDERS_S = 30.0
"""So long it takes at most until those that are ready are told to start."""
_TOLERANCE_S = 6.0
_LATE_S = 400.0
"""So long may a version be on its way: it tells how old the job was when it was decided on."""
_ROUNDING_USD = 1e-6


@dataclass
class Ends:
    """What justifies the end of one job, and what is charged for it."""

    spec: JobSpec
    instances: Mapping[str, Instance]
    """Of the cloud."""
    faults: Counter[Fault]
    """Of the run."""
    excess_s: float = 0.0
    """How much older than it is the job was made by wrong clocks."""
    _named_s: dict[str, float] = field(default_factory=dict)
    """When an instance was first named in the record as one that costs money."""
    _record: dict[str, Any] = field(default_factory=dict)

    def record_written(self, by: str, job: str, new: dict[str, Any], lived_s: float, now_s: float) -> None:
        """A new version of the record, of a job that was submitted `lived_s` ago. Raises Violation."""
        old, self._record = self._record, new
        self._follow_age(by, job, new, lived_s, is_first=new["epoch"] != old.get("epoch"))
        for use in new["uses"]:
            self._named_s.setdefault(use["instance"], now_s)
        self._check_charged(by, job, old, new, now_s)
        if new["limit"] and not old.get("limit") and "deadline" not in new["limit"] and not _let_go(old, new):
            self._check_used_up(by, job, new, now_s)
        elif new["phase"] == JobPhase.FAILED and old.get("phase") != JobPhase.FAILED:
            self._check_failed(by, job, new)

    def _follow_age(self, by: str, job: str, new: dict[str, Any], lived_s: float, *, is_first: bool) -> None:
        """`is_first`: of a leader, which knows of the time before it only by wall clocks."""
        ahead_s = new["age_s"] - lived_s
        is_wrong = self.faults[Fault.SKEW] or self.faults[Fault.JUMP]
        allowed_s = MAX_UNCOUNTED_S if is_first and is_wrong else 0.0
        if ahead_s > self.excess_s + allowed_s + _TOLERANCE_S:
            detail = f"{by}: {job} is {lived_s:.0f} s old, not {new['age_s']:.0f} s"
            raise Violation("a job is as old as time says", detail)
        if is_first and is_wrong:
            self.excess_s = max(self.excess_s, ahead_s + _LATE_S)

    def _check_charged(self, by: str, job: str, old: dict[str, Any], new: dict[str, Any], now_s: float) -> None:
        """Who is charged has ended, and has cost so much."""
        named = {use["instance"] for use in new["uses"]}
        least_usd = most_usd = 0.0
        for use in old.get("uses", ()):
            if use["instance"] in named:
                continue
            instance = self.instances.get(use["instance"])
            if instance is None:
                continue
            if instance.ended_s is None and instance.took_long:
                instance.came_late = True  # at the very moment when nobody waited for it any more
                most_usd += instance.cost_usd(now_s)
                continue
            if instance.ended_s is None:
                raise Violation("who costs money is named in the record", f"{by}: {job}: {instance.name} lives on")
            cost_usd = instance.cost_usd(now_s)
            least_usd += cost_usd
            forgotten = now_s >= instance.ended_s + FORGOTTEN_AFTER_S
            most_usd += self._worst_usd(use) if forgotten else cost_usd
        charged_usd = new["spent_usd"] - old.get("spent_usd", 0.0)
        if not least_usd - _ROUNDING_USD <= charged_usd <= most_usd + _ROUNDING_USD:
            detail = f"{by}: {job}: ${charged_usd:.5f} are charged, not ${least_usd:.5f}"
            raise Violation("what is charged is what it cost", detail)

    @staticmethod
    def _worst_usd(use: dict[str, Any]) -> float:
        allowance_s = float("inf") if use["allowance_s"] is None else use["allowance_s"]
        return float(use["usd_per_hour"] * allowance_s / 3600)

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
            self._check_budget(by, job, new, MIN_ALLOWANCE_S * (2 if new["uses"] else 1))

    def _check_budget(self, by: str, job: str, new: dict[str, Any], needed_s: float) -> None:
        """There is no money left for so many seconds of the largest rung."""
        max_cost = self.spec.limits.max_cost
        count = max(rung.count for rung in self.spec.resources.ladder)
        reserved_usd = new["spent_usd"] + sum(map(self._worst_usd, new["uses"]))
        if max_cost is None or max_cost - reserved_usd > ON_DEMAND_USD * (count * needed_s + _TOLERANCE_S) / 3600:
            detail = f"{by}: {job}: ${reserved_usd:.4f} of {max_cost} are spent or reserved: {new['reason']}"
            raise Violation("a failure is justified", detail)

    def _check_used_up(self, by: str, job: str, new: dict[str, Any], now_s: float) -> None:
        """The time of those that work is over, and nothing is left that could make it longer."""
        max_cost, running = self.spec.limits.max_cost, new["generation"]
        working = {slot["instance"] for slot in running["slots"]} if running and not running["released"] else set()
        left_s, reserved_usd, enough_usd = float("inf"), new["spent_usd"], 0.0
        for use in new["uses"]:
            instance = self.instances.get(use["instance"])
            if use["instance"] not in working:  # what it holds and does not use comes back
                lived_s = now_s - self._named_s[use["instance"]]
                reserved_usd += min(self._worst_usd(use), use["usd_per_hour"] * lived_s / 3600)
            else:
                reserved_usd += self._worst_usd(use)
                enough_usd += 2 * EXTEND_AT_LEAST_S * use["usd_per_hour"] / 3600
                lived_s = 0.0 if instance is None else now_s - instance.launched_s
                left_s = min(left_s, use["allowance_s"] - lived_s)
        if max_cost is None or max_cost - reserved_usd > enough_usd or left_s > DRAIN_BEFORE_S + _TOLERANCE_S:
            detail = f"{by}: {job}: ${reserved_usd:.4f} of {max_cost} and all but {left_s:.0f} s: {new['limit']}"
            raise Violation("a budget is used up before it ends a job", detail)

    def check_end(self, job: str) -> None:
        """All is over: whatever went wrong was made to go wrong. Raises Violation."""
        record = self._record
        if record["phase"] == JobPhase.FAILED and not record["limit"]:
            slow_boots = sum(map(self._boots_too_slowly, self.instances.values()))
            causes = sum(self.faults[fault] for fault in _ENDING) + slow_boots
            # An agent's death ends the workers, for a peer is gone, and then its instance does not come up again.
            if record["failures"] > 2 * causes:
                detail = f"{job}: {record['failures']} failures, and {causes} causes: {record['reason']}"
                raise Violation("a failure is justified", detail)

    @staticmethod
    def _boots_too_slowly(instance: Instance) -> bool:
        """Whether others that may live as long have to leave before it is ready."""
        return instance.allowance_s is not None and instance.boot_s > instance.allowance_s - LEAVE_WITHIN_S - _ORDERS_S


def _let_go(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether the generation that worked was let go in this very write: cancelled, say. No budget ended that."""
    before, after = old.get("generation"), new["generation"]
    return bool(before and after and after["released"] and not before["released"] and after["outcome"])
