"""What happens in a run beside the course of things: drawn at its beginning, carried out on the way."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random

from orchestrator.fleets.protocol import LaunchRequest
from orchestrator.jobs import layout
from orchestrator.simulator.cloud import LAG_S, MARKETS, ZONES
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.machine import SimulatedAgent
from orchestrator.simulator.people import Kind
from orchestrator.simulator.timeline import Process
from orchestrator.simulator.trainer import Course
from orchestrator.simulator.world import SimulatedJob, World
from orchestrator.spec.models import Checkpoint, JobSpec, Limits, Market, Resources, Rung, Scaling
from trainer.config import TrainingConfig

TROUBLE_S = (200.0, 1200.0)
"""How long things go wrong before all is well again."""

_BUDGETS = (None, None, 5.0, 0.6, 0.25)
_MARKETS: tuple[Market, ...] = ("spot_then_on_demand", "spot_then_on_demand", "spot", "on_demand")
_DEADLINES = (None, None, None, 3600.0)


@cache
def _spec(
    name: str, ladder: int, budget: float | None, deadline: float | None, every: float, market: Market
) -> JobSpec:
    """One of the jobs that are simulated: made once, for making one takes longer than simulating a minute of it."""
    ladders = {
        0: ((1, 1), (1, 2)),
        1: ((1, 1), (1, 2), (2, 2)),
        2: ((2, 1), (2, 2)),
        3: ((1, 2),),
    }
    rungs = tuple(Rung(instance="simulated.xlarge", count=count, workers=workers) for count, workers in ladders[ladder])
    return JobSpec(
        name=name,
        training=TrainingConfig(labels=50, steps=100, batch=32, labelled_batch=16, shards=8),
        resources=Resources(fleet="ec2", market=market, ladder=rungs),
        scaling=Scaling(window=4.0, warm_up=2.0, cooldown=40.0),
        checkpoint=Checkpoint(every=every, keep=2),
        limits=Limits(max_cost=budget, deadline=deadline),
    )


def drawn_job(chance: Random, name: str) -> SimulatedJob:
    """A job of a few minutes."""
    spec = _spec(
        name,
        chance.randrange(4),
        chance.choice(_BUDGETS),
        chance.choice(_DEADLINES),
        chance.choice((20.0, 60.0)),
        chance.choice(_MARKETS),
    )
    course = Course(
        steps=chance.choice((60, 120, 240)),
        steps_per_s=chance.choice((0.3, 0.6)),
        utilization_percent=chance.choice((15.0, 50.0, 95.0)),
    )
    return SimulatedJob(spec, course)


class Plan:
    """The troubles of one run, put on its timeline."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance
        self.trouble_s = self._chance.uniform(*TROUBLE_S)
        self.healed = False

    def lay_out(self) -> None:
        """Put everything on the timeline."""
        self._begin()
        self._world.cloud.launch_stalls = self._call_off
        self._world.at_trouble = self._jump_in_trouble
        several: list[tuple[Fault, float, Callable[[], None]]] = [
            (Fault.OUTAGE, 0.06, self._outage),
            (Fault.PARTITION, 0.08, self._partition),
            (Fault.DISK_FULL, 0.08, self._disk_full),
            (Fault.ROT, 0.06, self._rot),
            (Fault.JUMP, 0.08, self._jump),
            (Fault.AGENT_DIES, 0.06, self._agent_dies),
            (Fault.DAEMON_AWAY, 0.05, self._daemons_away),
            (Fault.REQUEST, 0.12, self._request),
            (Fault.TWO_PEOPLE, 0.05, self._two_people),
        ]
        for fault, probability, happens in several:
            for _ in range(3):
                if self._world.faults.comes(fault, probability):
                    self._sometime(happens)
        uncounted: list[tuple[float, Callable[[], None]]] = [
            (0.06, self._cloud_outage),
            (0.10, self._no_capacity),
            (0.06, self._quota),
            (0.08, lambda: self._preempt(notice=False)),
            (0.08, lambda: self._preempt(notice=True)),
            (0.10, self._reader),
        ]
        for probability, happens in uncounted:  # these are counted when they hit somebody
            for _ in range(3):
                if self._world.faults.temper and self._chance.random() < probability * self._world.faults.temper:
                    self._sometime(happens)

    def _begin(self) -> None:
        world = self._world
        for number in range(1 + (self._chance.random() < 0.15)):
            job = drawn_job(self._chance, f"job{number}")
            world.add_job(job)
            world.timeline.at(self._chance.uniform(0.0, 30.0), lambda spec=job.spec: world.people.submit(spec))  # type: ignore[misc]
        if 0.0 < world.faults.temper <= 1.0 and self._chance.random() < 0.06:
            self._prepare_zombie()
        elif world.faults.temper and self._chance.random() < 0.06:
            self._prepare_scarcity()
        daemons = self._chance.randint(2, 3) if world.faults.comes(Fault.TWO_DAEMONS, 0.35) else 1
        for _ in range(daemons):
            world.add_daemon(world.wrong_by_s())
        if world.faults.temper and self._chance.random() < 0.3:
            world.cloud.lag_s = self._chance.uniform(10.0, LAG_S)

    def _prepare_zombie(self) -> None:
        """A job that trains for long, and an instance of it that will be given up while it works on."""
        at_s = self._chance.uniform(100.0, 250.0)
        self.trouble_s = max(self.trouble_s, at_s + 900.0)
        for job in self._world.jobs.values():
            job.course = replace(job.course, steps=400, steps_per_s=0.3)
        self._world.timeline.at(at_s, self._zombie)

    def _prepare_scarcity(self) -> None:
        """A job that trains for long, and no spot instances when it begins."""
        until_s = self._chance.uniform(60.0, 900.0)
        self.trouble_s = max(self.trouble_s, 1000.0)
        for job in self._world.jobs.values():
            job.course = replace(job.course, steps=400, steps_per_s=0.3)
        self._world.cloud.lacks(until_s, market="spot")

    def _sometime(self, happens: Callable[[], None]) -> None:
        """At some moment of the trouble, if it is not over by then."""
        self._world.timeline.at(self._chance.uniform(0.0, self.trouble_s), lambda: None if self.healed else happens())

    # --- for a while --------------------------------------------------------------------------------------------------

    def _outage(self) -> None:
        world, seconds = self._world, self._chance.uniform(20.0, 400.0)
        now_s = world.timeline.now_s
        world.story.fault("the bucket", "is away for {:.0f} s", seconds)
        world.bucket.away_until_s = max(world.bucket.away_until_s, now_s + seconds)
        world.rules.excuses.add_for_all(now_s, now_s + seconds + 25.0)

    def _cloud_outage(self) -> None:
        world, seconds = self._world, self._chance.uniform(20.0, 600.0)
        world.story.fault("the cloud", "answers nobody for {:.0f} s", seconds)
        world.cloud.away_until_s = world.timeline.now_s + seconds

    def _no_capacity(self) -> None:
        """Nothing is to be had: of one market in one zone, of one market, or of any."""
        zone, market = self._chance.choice((None, *ZONES)), self._chance.choice((None, *MARKETS))
        self._world.cloud.lacks(self._world.timeline.now_s + self._chance.uniform(20.0, 500.0), zone, market)

    def _quota(self) -> None:
        until_s = self._world.timeline.now_s + self._chance.uniform(20.0, 500.0)
        self._world.cloud.quota_until_s[self._chance.choice(MARKETS)] = until_s

    def _partition(self) -> None:
        """One process cannot reach the bucket; all others can."""
        world = self._world
        views = [agent.store for agent in world.live_agents()]
        views += [daemon.store for daemon in world.daemons if daemon.store is not None]
        if not views:
            return
        seconds = self._chance.choice((30.0, 200.0, 1500.0)) * self._chance.uniform(0.7, 1.3)
        view = self._chance.choice(views)
        world.story.fault(view.process_name, "is cut off from the bucket for {:.0f} s", seconds)
        view.cut_until_s = world.timeline.now_s + seconds

    def _zombie(self) -> None:
        """Cut off until it is given up and replaced; then it is back, and works on, for ending it takes a while."""
        world = self._world
        if agents := world.live_agents():
            agent, now_s = self._chance.choice(agents), world.timeline.now_s
            world.story.fault(agent.process.name, "is cut off until it is replaced, and will be hard to end")
            agent.store.cut_until_s = now_s + 900.0
            agent.instance.clings = True
            job = agent.instance.request.job
            self._end_cut(agent, job, world.rules.heads.head_of(job).get("generation", 0))

    def _end_cut(self, agent: SimulatedAgent, job: str, generation: int) -> None:
        """Once the next generation has sealed the head."""
        if self._world.rules.heads.head_of(job).get("generation", 0) > generation:
            agent.store.cut_until_s = 0.0
        elif agent.process.alive:
            self._world.timeline.after(5.0, lambda: self._end_cut(agent, job, generation))

    def _disk_full(self) -> None:
        world = self._world
        if agents := world.live_agents():
            agent, seconds = self._chance.choice(agents), self._chance.uniform(20.0, 300.0)
            now_s = world.timeline.now_s
            world.story.fault(agent.process.name, "has a full disk for {:.0f} s", seconds)
            agent.machine.full_until_s = now_s + seconds
            world.rules.excuses.add(agent.instance.request.job, now_s, now_s + seconds)

    # --- in a moment --------------------------------------------------------------------------------------------------

    def _rot(self) -> None:
        """The head's checkpoint is altered where it lies."""
        world = self._world
        job = self._chance.choice(sorted(world.jobs))
        head = world.rules.heads.head_of(job)
        if not head or head["checkpoint"] is None or head["final"]:
            return
        checkpoint = head["checkpoint"]
        world.rules.heads.damage(job, checkpoint)
        world.story.fault("the bucket", "has altered {}", checkpoint)
        name = self._chance.choice(("model.bin", "manifest.json", "loop.json"))
        if self._chance.random() < 0.5:
            world.bucket.store.put(checkpoint + name, b"rot")
        else:
            world.bucket.store.delete(checkpoint + name)

    def _jump(self) -> None:
        world = self._world
        processes = [agent.process for agent in world.live_agents()]
        processes += [d.process for d in world.daemons if d.process is not None and d.process.alive]
        if processes:
            process = self._chance.choice(processes)
            by_s = self._chance.choice((-86400.0, -3600.0, -30.0, 30.0, 3600.0, 86400.0))
            world.story.fault(process.name, "its clock jumps by {:.0f} s", by_s)
            process.skew_s += by_s

    def _jump_in_trouble(self, process: Process) -> None:
        """A clock that jumps just when it is not known what was written."""
        if not self.healed and self._world.faults.comes(Fault.JUMP, 0.03):
            by_s = self._chance.choice((-86400.0, 3600.0, 86400.0))
            self._world.story.fault(process.name, "its clock jumps by {:.0f} s", by_s)
            process.skew_s += by_s

    def _agent_dies(self) -> None:
        if agents := self._world.live_agents():
            self._chance.choice(agents).process.die()

    def _preempt(self, *, notice: bool) -> None:
        if live := self._world.cloud.live():
            self._world.cloud.preempt(self._chance.choice(live), notice=notice)

    def _daemons_away(self) -> None:
        world = self._world
        seconds = self._chance.uniform(30.0, 600.0)
        world.story.fault("the daemons", "are away for {:.0f} s", seconds)
        for daemon in world.daemons:
            daemon.returns_at_s = world.timeline.now_s + seconds
            if daemon.process is not None:
                daemon.process.die()

    def _call_off(self, request: LaunchRequest) -> None:
        """While it is being launched, a person does not want it any more, as often as not."""
        if self._chance.random() < 0.7:
            kind: Kind = self._chance.choice(("pause", "cancel"))
            self._world.timeline.after(
                self._chance.uniform(0.0, 60.0), lambda: self._world.people.ask(request.job, kind)
            )

    # --- people -------------------------------------------------------------------------------------------------------

    def _request(self) -> None:
        kinds: tuple[Kind, ...] = ("pause", "resume", "resume", "resize", "resize", "pause", "cancel")
        kind = self._chance.choice(kinds)
        job = self._chance.choice(sorted(self._world.jobs))
        if self._world.bucket.store.get(layout.record_key(job)) is not None:
            workers = self._chance.choice((None, 1, 2, 4, 8)) if kind == "resize" else None
            self._world.people.ask(job, kind, workers)

    def _two_people(self) -> None:
        self._request()
        self._request()

    def _reader(self) -> None:
        self._world.people.read(self._chance.choice(sorted(self._world.jobs)))

    # --- the end of trouble -------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """From now on everything works, and whoever is paused is asked to go on."""
        world, now_s = self._world, self._world.timeline.now_s
        self.healed = True
        world.story.tell("everything", "works from now on")
        world.faults.calm()
        world.bucket.away_until_s = 0.0
        world.cloud.away_until_s = 0.0
        world.cloud.no_capacity_until_s.clear()
        world.cloud.quota_until_s.clear()
        world.cloud.lag_s = 0.0
        for agent in world.agents.values():
            agent.store.cut_until_s = agent.machine.full_until_s = 0.0
            agent.process.skew_s = 0.0
        for daemon in world.daemons:
            daemon.returns_at_s = now_s
            daemon.skew_s = 0.0
            if daemon.process is not None:
                daemon.process.skew_s = 0.0
            if daemon.store is not None:
                daemon.store.cut_until_s = 0.0
            daemon.start()
