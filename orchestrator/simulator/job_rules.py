"""Invariants of a job's record, its requests, its events and its training.

- A version of the record follows the one before; its epoch, its generations and what it has spent never go back; a job
  that is over stays over.
- No more workers than allowed; a request is answered once, and what is granted is done (`wish_rules`); no event is told
  twice.
- Work is lost only back to the last checkpoint that could be committed; the result is that of an undisturbed run.
- No secret is in any object.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic_core import from_json

from orchestrator.jobs.phases import JOB_TRANSITIONS, JobPhase
from orchestrator.simulator.end_rules import Ends
from orchestrator.simulator.timeline import START
from orchestrator.simulator.trainer import link
from orchestrator.simulator.violation import Violation
from orchestrator.simulator.wish_rules import Wishes

SECRET = "AKIA-never-to-be-seen"
UPLOAD_SLACK_S = 30.0
"""For looking, uploading and committing when nothing is wrong."""

Excuses = Callable[[str, float, float], float]
"""For a job: how many seconds between two moments its agents could not commit, for reasons outside them."""


@dataclass
class JobFacts:
    """What a run knows of a job for certain."""

    checkpoint_every_s: float
    max_workers: int
    max_cost: float | None
    wishes: Wishes
    ends: Ends
    record: dict[str, Any] = field(default_factory=dict)
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The slot of every instance that the record has ever named."""
    answered: dict[str, str] = field(default_factory=dict)
    """Per request, the kind of the event that told of it."""
    events: set[int] = field(default_factory=set)
    over_since_s: float | None = None
    weights: dict[int, str] = field(default_factory=lambda: {0: ""})
    reached: list[tuple[float, int]] = field(default_factory=list)
    """Of the generation that trained last: when it was at which step."""
    rejections: int = 0

    def wanted(self) -> set[str]:
        """Instances that the job has a use for now."""
        named = {slot["instance"] for generation in self._generations() for slot in generation["slots"]}
        return named - set(self.record.get("retired", ()))

    def needed(self) -> int:
        """How many instances the rungs of these generations need, by the job's ladder."""
        return sum(self.ends.spec.resources.ladder[generation["rung"]].count for generation in self._generations())

    def _generations(self) -> list[dict[str, Any]]:
        """Those whose instances are not let go."""
        if not self.record or JobPhase(self.record["phase"]).over:
            return []
        return [g for g in (self.record["generation"], self.record["upcoming"]) if g and not g["released"]]


class JobRules:
    """Follows the records and the training of all jobs. Also the `Watcher` of the gangs."""

    def __init__(self, now_s: Callable[[], float], excuses: Excuses) -> None:
        self.jobs: dict[str, JobFacts] = {}
        self._now_s = now_s
        self._excuses = excuses

    # --- what is written ---------------------------------------------------------------------------------------------

    def record_written(self, by: str, job: str, body: bytes | None) -> JobFacts:
        """A new version of the record."""
        facts = self.jobs[job]
        if body is None:
            raise Violation("a record is never removed", f"{by} removed that of {job}")
        old, new = facts.record, from_json(body)
        facts.record = new
        for generation in (new["generation"], new["upcoming"]):
            if generation:
                facts.intents.update((slot["instance"], slot) for slot in generation["slots"])
                if len({slot["zone"] for slot in generation["slots"]}) > 1:
                    raise Violation("a generation is in one zone", f"{by}: {job}: {generation['slots']}")
        phase = JobPhase(new["phase"])
        if phase.over and facts.over_since_s is None:
            facts.over_since_s = self._now_s()
        if old:
            self._check_follows(by, job, old, new)
        facts.wishes.record_written(by, job, new)
        created_s = (
            datetime.fromisoformat(new["created_at"]) - START
        ).total_seconds()  # whoever submits, knows the time
        facts.ends.record_written(by, job, new, self._now_s() - created_s, self._now_s())
        return facts

    @staticmethod
    def _check_follows(by: str, job: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        if new["seq"] != old["seq"] + 1:
            raise Violation("each record follows the one before", f"{by}: {job} from {old['seq']} to {new['seq']}")
        for counter in ("epoch", "last_generation", "last_event", "resizes", "lost_steps", "spent_usd"):
            if new[counter] < old[counter]:
                detail = f"{by}: {job}: {counter} from {old[counter]} to {new[counter]}"
                raise Violation("what a record counts never goes back", detail)
        before, after = JobPhase(old["phase"]), JobPhase(new["phase"])
        if after is not before and after not in JOB_TRANSITIONS[before]:
            raise Violation("a job that is over never runs again", f"{by}: {job} from {before} to {after}")

    def event_written(self, by: str, job: str, body: bytes | None) -> None:
        """An event was told."""
        if body is None:
            return
        facts, event = self.jobs[job], from_json(body)
        if event["number"] in facts.events:
            raise Violation("an event is told once", f"{by}: {job}: number {event['number']}")
        facts.events.add(event["number"])
        if event["kind"] in ("requested", "request_refused") and "request" in event["inputs"]:
            request = event["inputs"]["request"]
            if request in facts.answered:
                raise Violation("a request is honoured once", f"{by}: {job}: {request}")
            facts.answered[request] = event["kind"]

    def assignment_written(self, by: str, body: bytes | None) -> None:
        """An instance is told what to do."""
        if body is None:
            return
        order = from_json(body)
        facts = self.jobs[order["job"]]
        if order["nodes"] * order["workers"] > facts.max_workers:
            raise Violation("never more workers than allowed", f"{by}: {order['job']}: {order}")

    @staticmethod
    def check_secret(by: str, key: str, body: bytes) -> None:
        """Nothing that opens a door lies in the bucket."""
        if SECRET.encode() in body:
            raise Violation("no secret is in any object", f"{by} wrote {key}")

    # --- how training goes -------------------------------------------------------------------------------------------

    def began(self, job: str, generation: int, step: int, weights: str) -> None:
        """A generation trains from a step on."""
        facts = self.jobs[job]
        if self._weights_at(facts, step) != weights:
            raise Violation("no step is lost or done twice", f"{job}: generation {generation} begins wrong at {step}")
        self._check_loss(facts, job, step)
        facts.reached = [(self._now_s(), step)]

    def reached(self, job: str, generation: int, step: int) -> None:  # noqa: ARG002
        """It has come to a step."""
        self.jobs[job].reached.append((self._now_s(), step))

    def ended(self, job: str, generation: int, step: int, *, lost: bool) -> None:
        """It trains no more."""

    def _weights_at(self, facts: JobFacts, step: int) -> str:
        known = max(at for at in facts.weights if at <= step)
        weights = facts.weights[known]
        for number in range(known + 1, step + 1):
            weights = link(weights, number)
        facts.weights[step] = weights
        return weights

    def _check_loss(self, facts: JobFacts, job: str, step: int) -> None:
        """What the generation before had done beyond `step` is lost: it may be so much and no more."""
        rejections, facts.rejections = facts.rejections, 0
        if not facts.reached or rejections:
            return
        last_s, last_step = facts.reached[-1]
        if last_step <= step:
            return
        kept_s = max((at for at, reached in facts.reached if reached <= step), default=facts.reached[0][0])
        allowed_s = facts.checkpoint_every_s + UPLOAD_SLACK_S + self._excuses(job, kept_s, last_s)
        if last_s - kept_s > allowed_s:
            detail = f"{job}: from step {last_step} back to {step}: {last_s - kept_s:.0f} s, {allowed_s:.0f} s allowed"
            raise Violation("lost work is at most one checkpoint interval and an upload", detail)

    # --- how it ends -------------------------------------------------------------------------------------------------

    def check_result(self, job: str, steps: int, result: str | None) -> None:
        """A job that has succeeded holds the weights of a run that nothing ever happened to."""
        if result != self._weights_at(self.jobs[job], steps):
            raise Violation("the result is that of an undisturbed run", f"{job}: {result}")

    def check_requests(self, job: str, sent: Iterable[str]) -> None:
        """Every request that was surely left has been answered."""
        facts = self.jobs[job]
        for request in sent:
            if request not in facts.answered:
                raise Violation("a request is honoured", f"{job}: {request} was never answered")

    def check_events(self, job: str) -> None:
        """The story of a job has no gap."""
        facts = self.jobs[job]
        missing = set(range(1, facts.record["last_event"] + 1)) - facts.events
        if missing:
            raise Violation("no event is lost", f"{job}: {sorted(missing)[:5]}")
