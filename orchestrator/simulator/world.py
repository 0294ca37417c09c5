"""A simulated world: one bucket, one cloud, daemons, agents and people, with the invariants looking on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from orchestrator.jobs.instances import Assignment
from orchestrator.jobs.pace import Pace
from orchestrator.simulator.bucket import Bucket, BucketView
from orchestrator.simulator.cloud import Cloud, CloudView, Instance
from orchestrator.simulator.daemons import Daemon
from orchestrator.simulator.end_rules import Ends
from orchestrator.simulator.faults import Fault, Faults
from orchestrator.simulator.invariants import Invariants
from orchestrator.simulator.job_rules import JobFacts
from orchestrator.simulator.machine import SimulatedAgent
from orchestrator.simulator.people import People
from orchestrator.simulator.story import Story
from orchestrator.simulator.timeline import Process, Timeline
from orchestrator.simulator.trainer import Course, Gang
from orchestrator.simulator.wish_rules import Wishes
from orchestrator.spec.models import JobSpec

PACE = Pace(
    tick_s=5.0,
    quiet_tick_s=5.0,
    idle_tick_s=10.0,
    scan_s=10.0,
    idle_scan_s=30.0,
    assignment_s=5.0,
    heartbeat_s=10.0,
    job_check_s=30.0,
    ship_logs_s=30.0,
)
"""Slow enough that a history costs little, quick enough that much happens within it."""


@dataclass
class SimulatedJob:
    """A job and how its trainer behaves."""

    spec: JobSpec
    course: Course
    gangs: dict[int, Gang] = field(default_factory=dict)


class World:
    """Everything, wired; what happens in it is up to whoever made it."""

    def __init__(self, chance: Random, *, counts: Counter[Fault] | None = None, tell: bool = False) -> None:
        self.chance = chance
        self.timeline = Timeline(Random(chance.random()))
        self.faults = Faults(Random(chance.random()), counts)
        self.story = Story(self.timeline, wanted=tell)
        self.bucket = Bucket(self.timeline, self.faults, self.story)
        self.cloud = Cloud(self.timeline, self.faults, self.story)
        self.rules = Invariants(self.timeline, self.bucket.store, self.cloud)
        self.bucket.watchers.append(self.rules.bucket_changed)
        self.jobs: dict[str, SimulatedJob] = {}
        self.agents: dict[str, SimulatedAgent] = {}
        self.daemons: list[Daemon] = []
        self.people = People(self.timeline, self.view, self.nonce, self.story, self.rules.heads)
        self.cloud.boots = self._boot
        self.cloud.agent_alive = lambda name: name in self.agents and self.agents[name].process.alive
        self.at_trouble: Callable[[Process], None] = lambda _process: None
        """Called when a controller could not do what it wanted with the bucket."""
        self._numbers = 0

    def nonce(self) -> str:
        """One that was never made before."""
        self._numbers += 1
        return f"{self._numbers:08x}"

    def view(self, process: Process) -> BucketView:
        """The bucket as a process sees it."""
        return BucketView(self.bucket, process)

    def add_job(self, job: SimulatedJob) -> None:
        """A job that somebody will submit."""
        spec = job.spec
        self.jobs[spec.name] = job
        workers = max(spec.resources.ladder[rung].world_size for rung in spec.allowed_rungs)
        wishes = Wishes(tuple(rung.world_size for rung in spec.resources.ladder))
        self.rules.add_job(
            spec.name,
            JobFacts(
                spec.checkpoint.every,
                workers,
                spec.limits.max_cost,
                wishes,
                Ends(spec, self.cloud.instances, self.faults.counts),
            ),
        )

    def add_daemon(self, skew_s: float = 0.0) -> Daemon:
        """A host with a daemon."""
        troubled = self.rules.excuses.troubled
        daemon = Daemon(
            f"daemon{len(self.daemons) + 1}",
            self.timeline,
            lambda process: BucketView(
                self.bucket,
                process,
                lambda since_s, until_s: self._in_trouble(process, since_s, until_s),
                partial(troubled, process.name),
            ),
            lambda process: dict.fromkeys(
                ("local", "ec2"), CloudView(self.cloud, process, partial(troubled, process.name))
            ),
            self.nonce,
            self.story,
            PACE,
            skew_s,
            lambda: self.chance.uniform(1.0, 30.0),
            troubled,
        )
        self.daemons.append(daemon)
        daemon.start()
        return daemon

    def _in_trouble(self, process: Process, since_s: float, until_s: float) -> None:
        self.rules.excuses.troubled(process.name, since_s, until_s)
        self.at_trouble(process)

    def _boot(self, instance: Instance) -> None:
        excused = partial(self.rules.excuses.add, instance.request.job)
        agent = SimulatedAgent(
            instance,
            self.cloud,
            lambda process: BucketView(self.bucket, process, retried=excused, waits=excused),
            self.faults,
            self.story,
            self.nonce,
            self._gang_for,
            PACE,
            self.wrong_by_s(),
        )
        self.agents[instance.name] = agent

    def wrong_by_s(self) -> float:
        """How wrong the clock of a new machine is."""
        if not self.faults.comes(Fault.SKEW, 0.1):
            return 0.0
        return self.chance.choice((-1, 1)) * self.chance.choice((5.0, 60.0, 3600.0))

    def _gang_for(self, assignment: Assignment) -> Gang:
        job = self.jobs[assignment.job]
        gang = job.gangs.get(assignment.generation)
        if gang is None:
            gang = job.gangs[assignment.generation] = Gang(
                self.timeline,
                self.faults,
                self.rules.jobs,
                job.course,
                job=assignment.job,
                generation=assignment.generation,
                nodes=assignment.nodes,
                workers=assignment.workers,
                checkpoint_every_s=assignment.checkpoint_every_s,
            )
        return gang

    def live_agents(self) -> list[SimulatedAgent]:
        """Agents whose process lives, in the order of their names."""
        return [self.agents[name] for name in sorted(self.agents) if self.agents[name].process.alive]
