"""A job as the controller sees it, made by hand: a test says what happened, `decide` says what follows.

Nothing here reads a store or a clock. A scene applies decisions in the simplest way (what is launched starts, what is
sealed is sealed) and checks, at every decision, what must hold for all of them.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from orchestrator.controller.decide import Decision, decide
from orchestrator.controller.effects import Assign, DropRequest, Effect, Forget, Launch, Seal, Terminate
from orchestrator.controller.observation import InstanceView, LaunchFailure, Observation
from orchestrator.fleets.protocol import InstanceState, LaunchRequest, Offer
from orchestrator.jobs import layout
from orchestrator.jobs.events import Event, EventKind
from orchestrator.jobs.head import Head
from orchestrator.jobs.instances import Assignment, Heartbeat, TrainerExit, TrainerProgress, Utilization
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.jobs.record import Generation, JobRecord
from orchestrator.jobs.requests import Request
from orchestrator.spec.models import JobSpec
from tests.support.specs import job_spec, trained

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ROUNDS = 20
"""More than any story needs to come to rest."""


class Scene:
    """One job, its bucket and its fleet, as values."""

    def __init__(self, spec: JobSpec | None = None, *, price_usd_per_hour: float = 0.0) -> None:
        self.spec = spec or job_spec()
        self.now = START
        self.elapsed_s = 0.0
        """The controller's own clock, which never jumps."""
        self.written: tuple[int, float] | None = None
        """Which leader wrote the record last, and when by that clock."""
        self.epoch = 1
        submitted = Event(number=1, at=START, epoch=0, generation=0, kind=EventKind.SUBMITTED, message="submitted")
        self.record = JobRecord(
            name=self.spec.name, reason="submitted", created_at=START, last_event=1, outbox=(submitted,)
        )
        self.head: Head | None = None
        self.requests: list[Request] = []
        self.asked = 0
        self.views: dict[str, InstanceView] = {}
        self.prices = {"local": price_usd_per_hour}
        self.offers: dict[str, tuple[Offer, ...]] = {}
        """Where there are more than one for each price."""
        self.no_offers: dict[str, LaunchFailure] = {}
        self.refusals: dict[int, LaunchFailure] = {}
        """By the workers of an instance: why it cannot be launched."""
        self.refused_offers: dict[tuple[str, str], LaunchFailure] = {}
        """By zone and market."""
        self.lingering: set[str] = set()
        """Instances that the fleet takes its time to end."""
        self.events: list[Event] = []
        self.effects: list[Effect] = []

    # --- the controller -----------------------------------------------------------------------------------------------

    def observation(self) -> Observation:
        return Observation(
            epoch=self.epoch,
            spec=self.spec,
            record=self.record,
            head=self.head,
            requests=tuple(self.requests),
            instances=dict(self.views),
            offers=self.offers or {kind: (Offer(kind, "", "on_demand", usd),) for kind, usd in self.prices.items()},
            no_offers=self.no_offers,
            since_written_s=self.elapsed_s - self.written[1]
            if self.written and self.written[0] == self.epoch
            else None,
        )

    def decide(self) -> Decision:
        """Decide, take the record over, and check what holds for every decision."""
        seen = self.observation()
        decision = decide(seen, self.now)
        assert decide(seen, self.now) == decision, "the same observation gave two decisions"
        if decision.record is not seen.record:
            assert decision.record.epoch == self.epoch
            new = decision.record.outbox
            first = seen.record.last_event + 1
            assert [event.number for event in new] == list(range(first, first + len(new)))
            assert decision.record.last_event == seen.record.last_event + len(new)
            self.events += new
            self.written = self.epoch, self.elapsed_s
        _check_rest(seen, decision.record, self.now)
        self.record = decision.record
        return decision

    def step(self) -> bool:
        """Decide and carry out; False when nothing was left to do."""
        before = self.record
        decision = self.decide()
        for instance, view in self.views.items():
            self.views[instance] = replace(view, launch_failure=None)  # told once
        for effect in decision.effects:
            self.apply(effect)
        return self.record is not before or bool(decision.effects)

    def settle(self) -> "Scene":
        """Go on until the job is at rest."""
        for _ in range(ROUNDS):
            if not self.step():
                return self
        raise AssertionError(f"not at rest after {ROUNDS} rounds: {self.effects[-5:]}, {self.events[-5:]}")

    def apply(self, effect: Effect) -> None:
        """Carry out one effect."""
        self.effects.append(effect)
        match effect:
            case Launch(request):
                view = self.view(request.instance)
                assert view.state is None, f"{request.instance} was launched though it was there"
                failure = self.refuses(request)
                if failure:
                    self.views[request.instance] = replace(view, launch_failure=failure, never_was=True)
                else:
                    self.views[request.instance] = replace(view, state=InstanceState.STARTING)
            case Terminate(instance):
                gone = instance not in self.lingering
                view = self.view(instance)
                state = view.state if view.state is None or not gone else InstanceState.GONE
                self.views[instance] = replace(
                    view, state=state, terminated=gone, heartbeat=None if gone else view.heartbeat
                )
            case Seal(_, epoch, generation):
                old = self.head or Head(epoch=0, generation=0)
                assert (old.epoch, old.generation) <= (epoch, generation)
                self.head = old.model_copy(update={"epoch": epoch, "generation": generation})
            case Assign(instance, assignment):
                self.views[instance] = replace(self.view(instance), assignment=assignment)
            case Forget(instance):
                assert self.view(instance).terminated
            case DropRequest(_, request_id):
                self.requests = [request for request in self.requests if request.id != request_id]

    def refuses(self, request: LaunchRequest) -> LaunchFailure | None:
        """Why the fleet does not launch an instance."""
        elsewhere = self.refused_offers.get((request.zone, request.market))
        return elsewhere or self.refusals.get(request.workers)

    # --- what happens -------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> "Scene":
        self.elapsed_s += seconds
        return self.jump(seconds)

    def jump(self, seconds: float) -> "Scene":
        """The wall clock jumps; no time passes."""
        self.now += timedelta(seconds=seconds)
        return self

    def view(self, instance: str) -> InstanceView:
        return self.views.get(instance, InstanceView())

    def says(
        self, instance: str, state: str = "ready", *, silent_s: float = 0.0, stalled_s: float = 0.0, **told: Any
    ) -> "Scene":
        """A heartbeat of an instance; what it told before of the same generation stays told."""
        view = self.view(instance)
        first: dict[str, Any] = {"instance": instance, "count": 0, "port": 29_500}
        before = view.heartbeat.model_dump() if view.heartbeat else first
        if told.get("generation", before.get("generation")) != before.get("generation"):
            before |= {"progress": None, "utilization": None, "exit": None, "committed_step": None}
        beat = Heartbeat.model_validate(before | {"count": before["count"] + 1, "at": self.now, "state": state} | told)
        self.views[instance] = replace(
            view, state=InstanceState.RUNNING, heartbeat=beat, silent_s=silent_s, stalled_s=stalled_s
        )
        return self

    def come_up(self, *instances: str) -> "Scene":
        """Instances report that they are ready; without names, all of the upcoming generation."""
        for instance in instances or self.upcoming.instances:
            if self.view(instance).heartbeat is None:
                self.says(instance)
        return self.settle()

    def train(self, step: int, *, percent: float | None = None, samples: int = 0) -> "Scene":
        """The workers of the current generation report a step, and so many samples of utilisation."""
        running = self.generation
        utilization = None
        if percent is not None:
            utilization = Utilization(source="cpu", percents=(percent,) * min(samples, 600), count=samples)
        for instance in running.instances:
            self.says(
                instance,
                "running",
                generation=running.number,
                epoch=self.epoch,
                progress=TrainerProgress(step=step, total_steps=trained(self.spec).steps),
                utilization=utilization,
            )
        return self.settle()

    def commit(self, step: int) -> "Scene":
        """The agent commits a checkpoint of the current generation."""
        assert self.head is not None
        assert self.head.generation == self.generation.number
        prefix = layout.checkpoint_prefix(self.spec.name, step, self.head.generation)
        self.head = self.head.model_copy(update={"checkpoint": prefix, "step": step})
        return self.settle()

    def exit(
        self,
        outcome: Literal["finished", "drained", "failed", "refused", "lost"],
        *,
        step: int | None = None,
        message: str = "",
        instances: Sequence[str] = (),
        code: int | None = None,
    ) -> "Scene":
        """The workers end; the agents stay. What is refused after steps is hopeless (4), unless told otherwise."""
        running = self.generation
        code = {"finished": 0, "drained": 75, "failed": 1, "refused": 4, "lost": 1}[outcome] if code is None else code
        exited = TrainerExit(outcome=outcome, code=code, message=message or outcome, step=step)
        for instance in instances or running.instances:
            self.says(instance, "stopped", generation=running.number, exit=exited)
        return self.settle()

    def obey(self) -> "Scene":
        """Agents that were told to stop have stopped."""
        for instance in sorted(self.alive()):
            view = self.view(instance)
            if view.assignment is not None and view.assignment.action == "stop":
                stopped = TrainerExit(outcome="drained", code=75, message="the controller asked")
                self.says(instance, "stopped", generation=view.assignment.generation, exit=stopped)
        return self.settle()

    def lose(self, *instances: str) -> "Scene":
        """The fleet says that instances are gone."""
        for instance in instances or self.generation.instances:
            self.views[instance] = replace(self.view(instance), state=InstanceState.GONE)
        return self.settle()

    def ask(self, kind: Literal["cancel", "pause", "resume", "resize"], workers: int | None = None) -> "Scene":
        """A person leaves a request; nothing is decided yet."""
        self.asked += 1
        request = Request(id=f"r{self.asked}-{self.now:%H%M%S}", kind=kind, at=self.now, by="ada",
                          workers=workers)  # fmt: skip
        self.requests.append(request)
        return self

    # --- what is to be checked ----------------------------------------------------------------------------------------

    def is_in(self, job: JobPhase, generation: GenerationPhase | None = None) -> bool:
        """Whether the job is in this phase, and its generation in that."""
        if self.record.phase is not job:
            return False
        return generation is None or self.generation.phase is generation

    @property
    def phase(self) -> JobPhase:
        return self.record.phase

    @property
    def generation(self) -> Generation:
        assert self.record.generation is not None
        return self.record.generation

    @property
    def upcoming(self) -> Generation:
        assert self.record.upcoming is not None
        return self.record.upcoming

    @property
    def workers(self) -> int:
        return self.spec.resources.ladder[self.generation.rung].world_size

    def kinds(self, after: int = 0) -> list[EventKind]:
        """The kinds of the events so far, from number `after` + 1 on."""
        return [event.kind for event in self.events if event.number > after]

    def last(self, kind: EventKind) -> Event:
        """The newest event of a kind."""
        return next(event for event in reversed(self.events) if event.kind is kind)

    def launched(self) -> list[str]:
        return [effect.request.instance for effect in self.effects if isinstance(effect, Launch)]

    def terminated(self) -> list[str]:
        return list(dict.fromkeys(effect.instance for effect in self.effects if isinstance(effect, Terminate)))

    def assignment(self, instance: str | None = None) -> Assignment:
        found = self.view(instance or self.generation.instances[0]).assignment
        assert found is not None
        return found

    def alive(self) -> set[str]:
        """Instances that cost money."""
        return {i for i, view in self.views.items() if view.state in (InstanceState.STARTING, InstanceState.RUNNING)}


def _check_rest(seen: Observation, record: JobRecord, now: datetime) -> None:
    """However often one and the same world is looked at, the record comes to rest and nothing is told twice."""
    told = list(record.outbox)
    for _ in range(ROUNDS):
        after = decide(replace(seen, record=record, since_written_s=0.0), now).record
        if after is record:
            break
        told += after.outbox
        record = after
    else:
        raise AssertionError(f"never at rest: {told[-5:]}")
    said = [(event.kind, event.generation, event.message) for event in told]
    assert len(set(said)) == len(said), f"told twice: {said}"


def provisioning(spec: JobSpec | None = None) -> Scene:
    """A job whose first instances are starting."""
    return Scene(spec).settle()


def starting(spec: JobSpec | None = None) -> Scene:
    """A job whose first workers were told to start."""
    scene = provisioning(spec).come_up()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.STARTING)
    return scene


def training(spec: JobSpec | None = None, *, price_usd_per_hour: float = 0.0) -> Scene:
    """A job that trains at step 1, on its smallest rung."""
    scene = Scene(spec, price_usd_per_hour=price_usd_per_hour).settle().come_up().train(1)
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    return scene


def draining(spec: JobSpec | None = None) -> Scene:
    """A job whose workers were asked to end, because a person wants it paused."""
    scene = training(spec).ask("pause").settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING)
    return scene


def waiting_after_failure(spec: JobSpec | None = None) -> Scene:
    """A job that failed twice and waits before it tries again."""
    scene = training(spec).exit("failed", message="boom").train(1).exit("failed", message="boom")
    assert scene.record.upcoming is None
    return scene


def resizing(spec: JobSpec | None = None) -> Scene:
    """A job that trains on one worker while its second size is coming up."""
    scene = training(spec).ask("resize", 2).settle()
    assert scene.upcoming.rung == 1
    return scene


def paused(spec: JobSpec | None = None) -> Scene:
    """A job that a person has paused."""
    scene = draining(spec).commit(40).exit("drained", step=40)
    assert scene.is_in(JobPhase.PAUSED)
    return scene


SITUATIONS = {
    "submitted": Scene,
    "provisioning": provisioning,
    "starting": starting,
    "training": training,
    "draining": draining,
    "waiting after failures": waiting_after_failure,
    "resizing": resizing,
    "paused": paused,
}
"""Every situation that a job can be in before it is over."""
