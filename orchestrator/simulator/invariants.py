"""All invariants of a run, fed by the bucket, the cloud and the trainers as things happen."""

from typing import Any

from pydantic_core import from_json

from orchestrator.jobs import layout
from orchestrator.simulator.cloud import Cloud, Instance
from orchestrator.simulator.cloud_rules import CloudRules
from orchestrator.simulator.excuses import Excuses
from orchestrator.simulator.head_rules import HeadRules
from orchestrator.simulator.job_rules import JobFacts, JobRules
from orchestrator.simulator.timeline import Timeline
from orchestrator.simulator.violation import Violation
from orchestrator.store.lease import LEASE_KEY
from orchestrator.store.memory import MemoryStore


class Invariants:
    """Raises Violation within the change that breaks one."""

    def __init__(self, timeline: Timeline, store: MemoryStore, cloud: Cloud) -> None:
        self.excuses = Excuses(timeline)
        self.heads = HeadRules(store)
        self.jobs = JobRules(lambda: timeline.now_s, self.excuses.excused_s)
        self.cloud = CloudRules(cloud, self.jobs, self.excuses)
        self._lease: dict[str, Any] = {}
        cloud.watchers.append(self._cloud_changed)

    def add_job(self, job: str, facts: JobFacts) -> None:
        """A job will be submitted."""
        self.jobs.jobs[job] = facts

    def _cloud_changed(self, instance: Instance, what: str) -> None:
        self.cloud.happened(instance, what)

    def bucket_changed(self, by: str, key: str, body: bytes | None) -> None:
        """An object was written or removed."""
        if body is not None:
            JobRules.check_secret(by, key, body)
        if key.startswith(layout.JOBS):
            _, job, what = key.split("/", 2)
            self._job_changed(by, job, what, key, body)
        elif key.endswith("/assignment.json"):
            self.jobs.assignment_written(by, body)
            if body is not None:
                self.excuses.assigned(from_json(body))
        elif key == LEASE_KEY and body is not None:
            self._lease_written(by, from_json(body))

    def _job_changed(self, by: str, job: str, what: str, key: str, body: bytes | None) -> None:
        if what == "record.json":
            self.cloud.record_changed(job, self.jobs.record_written(by, job, body))
        elif what == "head.json":
            rejected = len(self.heads.head_of(job).get("rejected", ()))
            self.heads.head_written(by, job, body)
            head = self.heads.head_of(job)
            self.jobs.jobs[job].rejections += len(head["rejected"]) - rejected
            self.excuses.sealed(by, job, head)
        elif what.startswith("checkpoints/"):
            self.heads.checkpoint_changed(by, job, key, body)
        elif what.startswith("events/"):
            self.jobs.event_written(by, job, body)

    def _lease_written(self, by: str, new: dict[str, Any]) -> None:
        old, self._lease = self._lease, new
        if not old:
            return
        if new["epoch"] < old["epoch"]:
            raise Violation("the lease's epoch never goes back", f"{by}: from {old} to {new}")
        if new["holder"] != old["holder"] and new["epoch"] == old["epoch"]:
            raise Violation("one leader an epoch", f"{by}: from {old} to {new}")
