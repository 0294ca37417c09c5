"""One history: a seed, everything that comes of it, and what of it should never have happened."""

import json
import traceback
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from orchestrator.jobs import layout
from orchestrator.jobs.phases import JobPhase
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.job_rules import JobFacts
from orchestrator.simulator.plan import Plan
from orchestrator.simulator.trainer import RESULT
from orchestrator.simulator.violation import Violation
from orchestrator.simulator.world import World

LIVENESS_S = 5400.0
"""Once everything works, every job has come to its end after so long."""
LOOK_EVERY_S = 20.0
LAUNCHES_ONCE_HEALED = 16
"""More than these for a job, once everything works, would be a storm."""
ALONE_S = 5400.0
"""Without a controller, nothing is left that costs money after so long."""


@dataclass
class Outcome:
    """What became of one history."""

    seed: int
    violation: str | None = None
    phases: tuple[str, ...] = ()
    faults: Counter[Fault] = field(default_factory=Counter)
    events: int = 0
    virtual_s: float = 0.0
    story: list[str] = field(default_factory=list)


def run_history(seed: int, *, tell: bool = False) -> Outcome:
    """Live through the history of a seed."""
    outcome = Outcome(seed)
    history = History(seed, outcome.faults, tell=tell)
    try:
        history.run()
    except Violation as violation:
        outcome.violation = str(violation)
    except Exception as error:  # noqa: BLE001 - whatever a process ends with but its death is a finding
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome.violation = f"a process ended with {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    finally:
        history.world.timeline.close()
    outcome.phases = tuple(facts.record.get("phase", "never submitted") for facts in history.facts)
    outcome.events, outcome.virtual_s = history.world.timeline.events, history.world.timeline.now_s
    outcome.story = history.world.story.lines
    return outcome


class History:
    """A world with a plan: trouble first, then none, and all must come to an end."""

    def __init__(self, seed: int, counts: Counter[Fault], *, tell: bool) -> None:
        chance = Random(seed)
        self.world = World(chance, counts=counts, tell=tell)
        self._plan = Plan(self.world)
        self._alone = self.world.faults.temper > 0 and chance.random() < 0.06
        self._rested = False
        self._launches_before = 0

    @property
    def facts(self) -> list[JobFacts]:
        return list(self.world.rules.jobs.jobs.values())

    def run(self) -> None:
        """Live through it. Raises Violation."""
        world, plan = self.world, self._plan
        plan.lay_out()
        world.timeline.run(plan.trouble_s)
        if self._alone:
            self._end_alone()
            return
        plan.heal()
        self._launches_before = world.rules.cloud.launches
        self._look()
        world.timeline.run(plan.trouble_s + LIVENESS_S, lambda: self._rested)
        self._check_end()

    def _end_alone(self) -> None:
        """No controller ever returns: agents and timers end everything by themselves."""
        world = self.world
        world.faults.count(Fault.NO_DAEMON)
        world.story.fault("the daemons", "never return")
        for daemon in world.daemons:
            daemon.returns = False
            if daemon.process is not None:
                daemon.process.die()
        world.timeline.run(world.timeline.now_s + ALONE_S, lambda: not world.cloud.live())
        live = [instance.name for instance in world.cloud.live()]
        if live:
            raise Violation("without a controller everything ends by itself", f"{live} live on")

    def _look(self) -> None:
        """From time to time: whoever is paused is asked to go on, and is all at rest?"""
        world = self.world
        self._rested = all(self._is_at_rest(job) for job in world.jobs)
        if self._rested:
            return
        for job, facts in world.rules.jobs.jobs.items():
            if facts.record and facts.record["phase"] == JobPhase.PAUSED:
                world.people.ask(job, "resume")
        launched = world.rules.cloud.launches - self._launches_before
        if launched > LAUNCHES_ONCE_HEALED * len(world.jobs):
            raise Violation("no storm of launches", f"{launched} since everything works")
        world.timeline.after(LOOK_EVERY_S, self._look)

    def _is_at_rest(self, job: str) -> bool:
        facts, store = self.world.rules.jobs.jobs[job], self.world.bucket.store
        return (
            facts.over_since_s is not None
            and store.get(layout.todo_key(job)) is None
            and not any(True for _ in store.list(layout.requests_prefix(job)))
            and not any(instance.request.job == job for instance in self.world.cloud.live())
        )

    def _check_end(self) -> None:
        world, jobs = self.world, self.world.rules.jobs
        for job, facts in jobs.jobs.items():
            record = facts.record
            if not record or not JobPhase(record["phase"]).over:
                detail = f"{job} is {record.get('phase')}: {record.get('reason')}"
                raise Violation("every job comes to its end", detail)
            if record["phase"] == JobPhase.FAILED and not record["reason"]:
                raise Violation("every job finishes, or fails with a reason", job)
            if not self._is_at_rest(job):
                raise Violation("nothing is left to do", f"{job}: {record['retired']} {record['uses']}")
            if record["retired"] or record["uses"]:
                raise Violation("a job that is over has no instance", f"{job}: {record['retired']} {record['uses']}")
            facts.ends.check_end(job)
            jobs.check_events(job)
            jobs.check_requests(job, world.people.sent.get(job, ()))
            if record["phase"] == JobPhase.SUCCEEDED:
                self._check_result(job)
        world.rules.cloud.check_all_dead()

    def _check_result(self, job: str) -> None:
        checkpoint = self.world.rules.heads.head_of(job)["checkpoint"]
        found = self.world.bucket.store.get(f"{checkpoint}{RESULT}")
        weights = json.loads(found.body)["weights"] if found is not None else None
        self.world.rules.jobs.check_result(job, self.world.jobs[job].course.steps, weights)
