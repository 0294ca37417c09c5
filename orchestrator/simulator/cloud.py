"""The cloud: instances that cost money from launch to end, and an API that may be slow, stale or out of everything.

What is promised of every fleet holds here too: an instance of one name is started at most once, ever. The rest is as on
EC2: what is described may lie minutes back; a launch may be done though its reply was lost; a timer on the instance
itself, outside the agent, ends it when its allowance is used or its agent never came up or has died.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from orchestrator.fleets.protocol import FleetError, InstanceState, LaunchError, LaunchRequest, Market, Offer, Sighting
from orchestrator.simulator.faults import Fault, Faults
from orchestrator.simulator.story import Story
from orchestrator.simulator.timeline import Died, Process, Timeline
from orchestrator.spec.models import Resources

T = TypeVar("T")

Place = tuple[str, Market]
ZONES = ("a", "b")
MARKETS: tuple[Market, ...] = ("spot", "on_demand")
ON_DEMAND_USD = 1.0
_BOOT_S = (15.0, 60.0)
_SLOW_BOOT_S = (310.0, 500.0)
"""One in thirty takes so long: longer than a silence that is a loss."""
BOOT_LIMIT_S = 660.0
"""An instance whose agent is not up by then ends itself."""
DEAD_AGENT_LIMIT_S = 120.0
"""The same, when its agent has died."""
NOTICE_S = 120.0
FORGOTTEN_AFTER_S = 3600.0
"""An instance that has ended is described for so long."""
LAG_S = 90.0
"""What is described lies at most so far back."""
LATE_S = 60.0
"""A request arrives at most so long after its caller has given up."""
_GIVEN_UP_AFTER_S = (2.0, 25.0)
_SLOW_END_S = (10.0, 240.0)
_LAUNCH_STALL_S = (100.0, 600.0)


@dataclass
class Instance:
    """One instance, from launch to end."""

    name: str
    request: LaunchRequest
    launched_by: str
    """The process that asked for it."""
    asked_s: float
    """When that process began to ask."""
    launched_s: float
    boots_at_s: float
    usd_per_hour: float
    allowance_s: float | None
    """What the timer on the instance itself is set to."""
    ended_s: float | None = None
    why: str = ""
    """Why it has ended."""
    ending: bool = False
    """Whether it was told to end, and takes its time."""
    clings: bool = False
    """Whether it will take its time."""
    end: Callable[[str], None] = field(default=lambda _why: None)
    """Ends what runs on it."""
    notice: Callable[[], None] = field(default=lambda: None)
    """Tells what runs on it that it will be taken away."""
    orphan_since_s: float | None = None
    """Since when nobody wants it."""
    came_late: bool = False
    """Whether nothing was reserved for it any more when it was launched: to be ended at once."""

    @property
    def live(self) -> bool:
        return self.ended_s is None

    @property
    def boot_s(self) -> float:
        """How long it takes from its launch until its agent starts."""
        return self.boots_at_s - self.launched_s

    @property
    def took_long(self) -> bool:
        """Whether its launch took longer than any launch may that somebody waits for."""
        return self.launched_s - self.asked_s > LAG_S + LATE_S

    def cost_usd(self, now_s: float) -> float:
        """What it has cost up to now."""
        return self.usd_per_hour * ((now_s if self.ended_s is None else self.ended_s) - self.launched_s) / 3600

    def worst_usd(self) -> float:
        """What it will have cost at its end, whoever watches over it."""
        if self.ended_s is not None or self.allowance_s is None:
            return self.cost_usd(self.launched_s if self.ended_s is None else self.ended_s)
        return self.usd_per_hour * self.allowance_s / 3600


class Cloud:
    """All instances that there ever were, and the state of the API."""

    def __init__(self, timeline: Timeline, faults: Faults, story: Story) -> None:
        self.timeline = timeline
        self.faults = faults
        self.story = story
        self.instances: dict[str, Instance] = {}
        self.ended_before: set[tuple[str, str]] = set()
        """Instances that a process wanted ended before they were there, and the process."""
        self.prices: dict[Place, float] = {
            (zone, market): ON_DEMAND_USD if market == "on_demand" else ON_DEMAND_USD * faults.chance.uniform(0.5, 0.95)
            for market in MARKETS
            for zone in ZONES
        }
        self.no_capacity_until_s: dict[Place, float] = {}
        self.quota_until_s: dict[Market, float] = {}
        self.boots: Callable[[Instance], None] = lambda _instance: None
        """Called when an instance has booted: its agent starts."""
        self.agent_alive: Callable[[str], bool] = lambda _name: True
        """Whether the agent on an instance runs."""
        self.launch_stalls: Callable[[LaunchRequest], None] = lambda _request: None
        """Called when a process begins to stand still within a launch."""
        self.watchers: list[Callable[[Instance, str], None]] = []
        """Called with an instance and what happened to it: "launched", "ended", "allowance", "asked again"."""
        self.away_until_s = self.lag_s = 0.0

    def lacks(self, until_s: float, zone: str | None = None, market: Market | None = None) -> None:
        """There is no capacity until then: there, or anywhere."""
        for place in self.prices:
            if zone in (None, place[0]) and market in (None, place[1]):
                self.no_capacity_until_s[place] = until_s

    def live(self) -> list[Instance]:
        return [instance for instance in self.instances.values() if instance.live]

    def launch(self, request: LaunchRequest, by: str, asked_s: float) -> None:
        """Start an instance, or do nothing if one of that name was ever started. Raises LaunchError."""
        if (present := self.instances.get(request.instance)) is not None:
            self._tell(present, "asked again" if present.request == request else "asked again for something else")
            return
        now_s, place = self.timeline.now_s, (request.zone, request.market)
        if now_s < self.no_capacity_until_s.get(place, 0.0):
            self.faults.count(Fault.NO_CAPACITY)
            self.story.fault(by, "launch {}: no capacity, {} in {}", request.instance, request.market, request.zone)
            raise LaunchError("there is no capacity now", kind="capacity")
        if now_s < self.quota_until_s.get(request.market, 0.0):
            self.faults.count(Fault.QUOTA)
            self.story.fault(by, "launch {}: over the quota, {}", request.instance, request.market)
            raise LaunchError("the quota is used up", kind="quota")
        instance = Instance(
            request.instance,
            request,
            by,
            asked_s,
            now_s,
            now_s + self._boot_s(),
            self.prices[place],
            request.allowance_s,
        )
        self.instances[instance.name] = instance
        started = (instance.name, request.market, request.zone, request.allowance_s)
        self.story.tell(by, "the cloud starts {} ({} in {}, allowance {})", *started)
        self.set_allowance(instance, request.allowance_s)
        self.timeline.at(instance.launched_s + BOOT_LIMIT_S + 60.0, lambda: self._check_agent(instance))
        if self.faults.comes(Fault.NEVER_REPORTS, 0.03):
            self.story.fault(instance.name, "boots and will never report")
        else:
            self.timeline.at(instance.boots_at_s, lambda: self.boots(instance) if instance.live else None)
        self._tell(instance, "launched")

    def _boot_s(self) -> float:
        fastest_s, slowest_s = _BOOT_S
        boot_s = self.faults.chance.uniform(fastest_s, slowest_s)
        slow = (boot_s - fastest_s) / (slowest_s - fastest_s) * 30 - 29
        return boot_s if slow < 0 else _SLOW_BOOT_S[0] + slow * (_SLOW_BOOT_S[1] - _SLOW_BOOT_S[0])

    def _check_agent(self, instance: Instance) -> None:
        """cloud-init's own watch: without an agent there is nothing to wait for."""
        if instance.live and not self.agent_alive(instance.name):
            self.end(instance, "its agent never came up")

    def agent_died(self, instance: Instance) -> None:
        """The unit that watches over the agent turns the machine off before long."""
        within_s = self.faults.chance.uniform(1.0, DEAD_AGENT_LIMIT_S)
        self.timeline.after(within_s, lambda: self.end(instance, "its agent has died"))

    def set_allowance(self, instance: Instance, allowance_s: float | None) -> None:
        """Set the timer on the instance."""
        is_new, instance.allowance_s = instance.allowance_s != allowance_s, allowance_s
        if allowance_s is not None:
            if is_new:
                self._tell(instance, "allowance")
            self.timeline.at(instance.launched_s + allowance_s, lambda: self._allowance_used(instance))

    def _allowance_used(self, instance: Instance) -> None:
        allowance_s = instance.allowance_s
        if allowance_s is not None and self.timeline.now_s >= instance.launched_s + allowance_s - 1e-6:
            self.end(instance, "its allowance is used")

    def end(self, instance: Instance, why: str) -> None:
        """An instance ends, whoever wanted it. One that is described as gone runs nothing any more."""
        if not instance.live:
            return
        instance.ended_s, instance.why = self.timeline.now_s, why
        self.story.tell(instance.name, "the instance ends: {}", why)
        instance.end(why)
        self._tell(instance, "ended")

    def terminate(self, name: str, by: str) -> None:
        """A process wants it ended, whether it is there yet or not."""
        instance = self.instances.get(name)
        if instance is None:
            self.ended_before.add((name, by))
        elif instance.live and not instance.ending:
            self._terminate(instance)

    def _terminate(self, instance: Instance) -> None:
        """It ends: at once, or after a while in which its processes go on."""
        why = "terminated by the API"
        if not (instance.clings or self.faults.comes(Fault.SLOW_END, 0.2)):
            self.end(instance, why)
            return
        seconds = _SLOW_END_S[1] if instance.clings else self.faults.chance.uniform(*_SLOW_END_S)
        self.story.fault(instance.name, "takes {:.0f} s to end", seconds)
        instance.ending = True
        self.timeline.after(seconds, lambda: self.end(instance, why))

    def preempt(self, instance: Instance, *, notice: bool) -> None:
        """The cloud wants it back."""
        if not instance.live:
            return
        if not notice:
            self.faults.count(Fault.PREEMPTION)
            self.story.fault(instance.name, "is taken away without notice")
            self.end(instance, "preempted")
            return
        self.faults.count(Fault.PREEMPTION_NOTICE)
        self.story.fault(instance.name, "is told that it will be taken away")
        instance.notice()
        self.timeline.after(NOTICE_S, lambda: self.end(instance, "preempted after a notice"))

    def sighting(self, name: str, at_s: float) -> Sighting | None:
        """How an instance was at a moment, by the cloud's own clock."""
        instance = self.instances.get(name)
        if instance is None or at_s < instance.launched_s:
            return None
        if instance.ended_s is not None and at_s >= instance.ended_s:
            told = Sighting(InstanceState.GONE, instance.ended_s - instance.launched_s, instance.why)
            return told if at_s < instance.ended_s + FORGOTTEN_AFTER_S else None
        state = InstanceState.RUNNING if at_s >= instance.boots_at_s else InstanceState.STARTING
        return Sighting(state, at_s - instance.launched_s)

    def _tell(self, instance: Instance, what: str) -> None:
        for watcher in self.watchers:
            watcher(instance, what)


class CloudView:
    """A fleet (`orchestrator.fleets.protocol.Fleet`) as one controller has it."""

    def __init__(
        self, cloud: Cloud, process: Process, waits: Callable[[float, float], None] = lambda _since_s, _until_s: None
    ) -> None:
        """`waits` is told, when the time begins, from when to when this process is kept waiting."""
        self._cloud = cloud
        self._process = process
        self._waits = waits

    @property
    def lag_s(self) -> float:
        return LAG_S + LATE_S

    def launch(self, request: LaunchRequest) -> None:
        faults, name, asked_s = self._cloud.faults, self._process.name, self._cloud.timeline.now_s
        if faults.comes(Fault.LAUNCH_STALLED, 0.01):
            self._cloud.story.fault(name, "{}: {}", Fault.LAUNCH_STALLED, request.instance)
            self._cloud.launch_stalls(request)
            self._process.sleep(faults.chance.uniform(*_LAUNCH_STALL_S))
        self._call(f"launch {request.instance}", lambda: self._cloud.launch(request, name, asked_s))

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        names = list(instances)

        def describe() -> dict[str, Sighting]:
            cloud = self._cloud
            at_s = cloud.timeline.now_s
            if cloud.lag_s and cloud.faults.chance.random() < 0.3:
                cloud.faults.count(Fault.STALE_DESCRIBE)
                at_s -= cloud.faults.chance.uniform(0.0, cloud.lag_s)
            return {name: seen for name in names if (seen := cloud.sighting(name, at_s)) is not None}

        return self._call("describe", describe)

    def terminate(self, instance: str) -> None:
        self._call(f"terminate {instance}", lambda: self._cloud.terminate(instance, self._process.name))

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:
        """Spot first where the job takes it, each market by price."""
        prices = self._cloud.prices
        return [
            Offer(instance_type, zone, market, prices[zone, market])
            for market in MARKETS
            for zone in sorted(ZONES, key=lambda zone: prices[zone, market])
            if market in resources.market.split("_then_")
        ]

    def _call(self, what: str, apply: Callable[[], T]) -> T:
        process, cloud = self._process, self._cloud
        if not process.alive:
            raise Died
        if cloud.away_until_s > cloud.timeline.now_s:
            self._wait(cloud.faults.chance.uniform(*_GIVEN_UP_AFTER_S))
            cloud.faults.count(Fault.CLOUD_OUTAGE)
            raise FleetError(f"{what}: the cloud does not answer")
        fault = cloud.faults.in_call()
        if fault is None:
            return apply()
        cloud.faults.count(fault)
        cloud.story.fault(process.name, "{}: {}", fault, what)
        return cast(T, self._disturbed(fault, what, apply))

    def _wait(self, seconds: float) -> None:
        now_s = self._cloud.timeline.now_s
        self._waits(now_s, now_s + seconds)
        self._process.sleep(seconds)

    def _disturbed(self, fault: Fault, what: str, apply: Callable[[], object]) -> object:
        process, cloud = self._process, self._cloud
        chance = cloud.faults.chance
        if fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER):
            if fault is Fault.CRASH_AFTER:
                self._unseen(apply)
            process.die()
            raise Died
        if fault in (Fault.DELAYED, Fault.STALLED):
            self._wait(chance.uniform(1.0, 20.0) if fault is Fault.DELAYED else chance.uniform(20.0, 200.0))
            return apply()
        if fault is Fault.DOUBLED:  # what was refused is refused: nobody sends it again
            result = apply()
            cloud.timeline.after(chance.uniform(0.0, LATE_S), lambda: self._unseen(apply))
            return result
        if fault is Fault.LATE:
            cloud.timeline.after(chance.uniform(0.0, LATE_S), lambda: self._unseen(apply))
        elif fault in (Fault.REPLY_LOST, Fault.OWN_412):
            self._unseen(apply)
        self._wait(chance.uniform(*_GIVEN_UP_AFTER_S))
        raise FleetError(f"{what}: no answer that tells ({fault})")

    @staticmethod
    def _unseen(apply: Callable[[], object]) -> None:
        try:
            apply()
        except LaunchError:
            return
