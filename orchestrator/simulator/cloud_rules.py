"""Invariants of the instances, looked at after each change of the cloud or of a record.

- Nothing is launched without an intent in the record, which says where and for what price; what is launched again is
  launched as it was. All live instances of a generation are in one zone.
- The live instances that a job wants and that are not ending are at most as many as its rung and the next one need.
- Every live instance is wanted by its job, or is dead within `BOUND_S`, also if no controller ever returns.
- What was spent and what is running at its worst never exceed the budget. On top of that comes only what is launched so
  late that nothing is reserved for it any more, and that is ended at once by whoever launched it; or ends by itself,
  like any that nobody wants, where it comes even later: whoever asked had given up, and had ended it before it came.
"""

from orchestrator.simulator.cloud import Cloud, Instance
from orchestrator.simulator.excuses import Excuses
from orchestrator.simulator.job_rules import JobFacts, JobRules
from orchestrator.simulator.violation import Violation

BOUND_S = 900.0
UNDONE_WITHIN_S = 30.0
_UNTROUBLED_S = 10.0
"""So long, of that, without trouble, is enough."""
_TOLERANCE_USD = 1e-6


class CloudRules:
    """Follows the instances of all jobs."""

    def __init__(self, cloud: Cloud, jobs: JobRules, excuses: Excuses) -> None:
        self._cloud = cloud
        self._excuses = excuses
        self._jobs = jobs
        self._of_job: dict[str, list[Instance]] = {}
        self.launches = 0

    def happened(self, instance: Instance, what: str) -> None:
        """The cloud did something to an instance."""
        job = instance.request.job
        facts = self._jobs.jobs[job]
        if what == "launched":
            self._launched(instance, facts)
        elif what == "asked again for something else":
            raise Violation("a launch that is asked for again is the same", f"{instance.name}: {instance.request}")
        if what in ("launched", "allowance", "ended"):
            self._check_budget(job, facts)

    def _launched(self, instance: Instance, facts: JobFacts) -> None:
        self.launches += 1
        job = instance.request.job
        self._of_job.setdefault(job, []).append(instance)
        request = instance.request
        intent = facts.intents.get(instance.name)
        if intent is None:
            raise Violation("nothing is launched without an intent", f"{instance.name} of {job}")
        if (intent["zone"], intent["market"]) != (request.zone, request.market):
            raise Violation("it is launched where it was meant to be", f"{instance.name}: {intent}, {request}")
        self._look_at(instance, facts.wanted())
        price = next((u["usd_per_hour"] for u in facts.record["uses"] if u["instance"] == instance.name), None)
        if price is not None and price != instance.usd_per_hour:
            raise Violation("it costs what was reserved for it", f"{instance.name}: {price}, {instance.usd_per_hour}")
        if price is None:
            instance.came_late = True
            self._cloud.timeline.after(UNDONE_WITHIN_S, lambda: self._check_undone(instance))
        self._check_count(job, facts)

    def _check_undone(self, instance: Instance) -> None:
        if (instance.name, instance.launched_by) in self._cloud.ended_before:
            return
        since_s, now_s = instance.launched_s, self._cloud.timeline.now_s
        troubled_s = self._excuses.troubled_s(instance.launched_by, since_s, now_s)
        if instance.live and not instance.ending and now_s - since_s - troubled_s > _UNTROUBLED_S:
            raise Violation("a launch that comes too late is undone", f"{instance.name} by {instance.launched_by}")

    def record_changed(self, job: str, facts: JobFacts) -> None:
        """What is wanted may have changed."""
        wanted = facts.wanted()
        for instance in self._of_job.get(job, ()):
            if instance.live:
                self._look_at(instance, wanted)
        self._check_count(job, facts)

    def _check_count(self, job: str, facts: JobFacts) -> None:
        wanted = facts.wanted()
        live = [i.name for i in self._of_job.get(job, ()) if i.live and not i.ending and i.name in wanted]
        needed = facts.needed()
        if len(live) > needed:
            raise Violation("no more instances than the rungs need", f"{job} needs {needed}: {live}")

    def _look_at(self, instance: Instance, wanted: set[str]) -> None:
        if instance.name in wanted:
            instance.orphan_since_s = None
        elif instance.orphan_since_s is None:
            since_s = instance.orphan_since_s = self._cloud.timeline.now_s
            self._cloud.timeline.at(since_s + BOUND_S, lambda: self._check_dead(instance, since_s))

    def _check_dead(self, instance: Instance, since_s: float) -> None:
        if instance.live and instance.orphan_since_s == since_s:
            raise Violation(
                "every live instance is wanted, or dead within the bound",
                f"{instance.name} lives on {BOUND_S:.0f} s after nobody wanted it",
            )

    def _check_budget(self, job: str, facts: JobFacts) -> None:
        if facts.max_cost is None:
            return
        instances = self._of_job.get(job, ())
        unbounded = [i.name for i in instances if i.live and i.allowance_s is None]
        if unbounded:
            raise Violation("whoever has a budget gives allowances", f"{unbounded} of {job} may live for ever")
        worst_usd = sum(instance.worst_usd() for instance in instances if not instance.came_late)
        if worst_usd > facts.max_cost + _TOLERANCE_USD:
            raise Violation(
                "spent and the worst of what runs never exceed the budget",
                f"{job}: {worst_usd:.4f} of {facts.max_cost:.4f}",
            )

    def check_all_dead(self) -> None:
        """Nothing is left that costs money."""
        live = [instance.name for instance in self._cloud.live()]
        if live:
            raise Violation("a finished job has no instance", f"{live} live on")
