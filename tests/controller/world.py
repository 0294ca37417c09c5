"""The real controller on a store in memory, with made-up clock, fleet and agents, in one thread.

So a story is exactly repeatable, and can be stopped between any two calls.

An agent here is what the protocol asks of one: it reads its assignment, writes heartbeats and commits checkpoints
through `orchestrator.jobs.head`. Its training is a chain of hashes, one link a step, so that a step that was left out,
done twice or resumed from the wrong checkpoint shows in the last link.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Literal

from orchestrator.controller.controller import Controller
from orchestrator.controller.decide import Deposed
from orchestrator.fleets.protocol import InstanceState, LaunchError, LaunchRequest, Offer, Sighting
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record, submit_job
from orchestrator.jobs.events import Event, read_events
from orchestrator.jobs.head import Head, Manifest, NotYetAssigned, Superseded, commit, load_head
from orchestrator.jobs.instances import Assignment, Heartbeat, TrainerExit, TrainerProgress, Utilization
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import send_request
from orchestrator.spec.models import JobSpec, Resources
from orchestrator.store import document
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Store
from tests.support.interposed import WRITES, InterposedStore, Operation
from tests.support.specs import job_spec

TICK_S = 0.5
IDLE_EXIT_S = 30.0
TOTAL_STEPS = 30
STEPS_A_COMMIT = 5
BOOT_S = 1.0


class Died(BaseException):
    """The controller's process is killed: nothing of it may catch this."""


def link(state: str, step: int) -> str:
    """The state after one more step."""
    return hashlib.sha256(f"{state} {step}".encode()).hexdigest()


def undisturbed_result() -> str:
    """The state after all steps."""
    state = ""
    for step in range(1, TOTAL_STEPS + 1):
        state = link(state, step)
    return state


@dataclass
class Clock:
    """Time that passes only when it is told to."""

    elapsed_s: float = 0.0
    jumped_s: float = 0.0
    """How far the wall clock has jumped."""

    def now(self) -> datetime:
        return datetime(2026, 11, 24, 12, 0, tzinfo=UTC) + timedelta(seconds=self.elapsed_s + self.jumped_s)

    def monotonic(self) -> float:
        return 1000.0 + self.elapsed_s


class FakeAgent:
    """An instance with its agent and its workers. Those of one generation step together, or not at all."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        request: LaunchRequest,
        nonce: Callable[[], str],
        others: "Mapping[str, FakeAgent]",
    ) -> None:
        self.request = request
        self.percent = 50.0
        self._others = others
        self._store, self._clock, self._nonce = store, clock, nonce
        self._booted_at_s = clock.elapsed_s + BOOT_S
        self._idle_since_s = clock.elapsed_s
        self._assignment: Assignment | None = None
        self._state: Literal["ready", "running", "draining", "stopped"] = "ready"
        self._exit: TrainerExit | None = None
        self._weights, self._step, self._committed, self._count = "", 0, -1, 0
        self._samples = 0
        self.ended = False

    @property
    def booted(self) -> bool:
        return self._clock.elapsed_s >= self._booted_at_s

    def tick(self) -> None:
        """What an agent does in a moment."""
        if self.ended or not self.booted:
            return
        self._follow()
        if self._state in ("running", "draining"):
            self._idle_since_s = self._clock.elapsed_s
            self._train()
        record = load_record(self._store, self.request.job).value
        idle_s = self._clock.elapsed_s - self._idle_since_s
        self.ended = record.phase.over or idle_s > IDLE_EXIT_S
        self._tell()

    def fail(self) -> None:
        """The workers die at once, between two checkpoints."""
        if self._state in ("running", "draining"):
            self._end("failed")

    def _follow(self) -> None:
        stored = document.load(self._store, layout.assignment_key(self.request.instance), Assignment)
        if stored is None:
            return
        wanted, current = stored.value, self._assignment
        if current is not None and current.generation == wanted.generation:
            self._assignment = wanted
            if wanted.action == "drain" and self._state == "running":
                self._state = "draining"
            elif wanted.action == "stop" and self._state in ("running", "draining"):
                self._end("drained")
        elif wanted.action == "run":
            self._begin(wanted)

    def _begin(self, wanted: Assignment) -> None:
        self._assignment, self._state, self._exit = wanted, "running", None
        self._weights, self._step, self._samples = "", 0, 0
        if wanted.resume is not None:
            found = self._store.get(f"{wanted.resume}state")
            assert found is not None, f"{wanted.resume} was to be resumed from and is not there"
            step, self._weights = found.body.decode().split()
            self._step = int(step)
        self._committed = self._step

    def _train(self) -> None:
        assert self._assignment is not None
        nodes = [node for node in self._others.values() if not node.ended and self._works_with(node)]
        leader = next((node for node in nodes if node._assignment and node._assignment.node_rank == 0), None)
        if leader is None:
            return  # it waits at the rendezvous
        if leader is not self:
            self._step, self._weights, self._samples = leader._step, leader._weights, leader._samples
            if leader._exit is not None:
                self._end(leader._exit.outcome)
        elif len(nodes) == self._assignment.nodes:
            self._lead(draining=any(node._state == "draining" for node in nodes))

    def _works_with(self, other: "FakeAgent") -> bool:
        ours, theirs = self._assignment, other._assignment
        return ours is not None and theirs is not None and ours.generation == theirs.generation

    def _lead(self, *, draining: bool) -> None:
        """The first node's part: it also writes the checkpoints."""
        if self._step < TOTAL_STEPS and not draining:
            self._step += 1
            self._samples += 1
            self._weights = link(self._weights, self._step)
        is_final = self._step == TOTAL_STEPS
        if is_final or draining or self._step % STEPS_A_COMMIT == 0:
            try:
                self._commit(final=is_final)
            except NotYetAssigned:
                return  # told of the new leader, it goes on
            except Superseded:
                self._end("drained")
                return
            if is_final:
                self._end("finished")
            elif draining:
                self._end("drained")

    def _commit(self, *, final: bool) -> None:
        assert self._assignment is not None
        if self._committed == self._step:
            return
        generation = self._assignment.generation
        prefix = layout.checkpoint_prefix(self.request.job, self._step, generation)
        self._store.put(f"{prefix}state", f"{self._step} {self._weights}".encode())
        manifest = Manifest(step=self._step, generation=generation, final=final, files=())
        self._store.put(layout.manifest_key(prefix), manifest.model_dump_json().encode())
        commit(self._store, self.request.job, self._assignment.epoch, manifest, self._nonce)
        self._committed = self._step

    def _end(self, outcome: Literal["finished", "drained", "failed", "refused", "lost"]) -> None:
        code = {"finished": 0, "drained": 75, "failed": 1, "refused": 2, "lost": 1}[outcome]
        self._exit = TrainerExit(outcome=outcome, code=code, message=outcome, step=self._step)
        self._state = "stopped"

    def _tell(self) -> None:
        self._count += 1
        assignment = self._assignment
        trains = assignment is not None and self._step > 0
        beat = Heartbeat(
            instance=self.request.instance,
            count=self._count,
            at=self._clock.now(),
            state="leaving" if self.ended else self._state,
            job=self.request.job,
            epoch=assignment.epoch if assignment else 0,
            generation=assignment.generation if assignment else 0,
            progress=TrainerProgress(step=self._step, total_steps=TOTAL_STEPS) if trains else None,
            utilization=Utilization(
                source="cpu", percents=(self.percent,) * min(self._samples, 600), count=self._samples
            ),
            exit=self._exit,
        )
        self._store.put(layout.heartbeat_key(self.request.instance), beat.model_dump_json().encode())


@dataclass
class FakeFleet:
    """Instances that start when asked, once a name."""

    store: Store
    clock: Clock
    nonce: Callable[[], str]
    agents: dict[str, FakeAgent] = field(default_factory=dict)
    launches: list[str] = field(default_factory=list)
    """Every instance that was really started, in order."""
    percent: dict[int, float] = field(default_factory=dict)
    """How busy an instance of so many workers is."""
    largest: int = 99
    """More workers than this cannot be had."""
    lag_s: float = 0.0

    def launch(self, request: LaunchRequest) -> None:
        if request.instance in self.agents:
            return
        if request.workers > self.largest:
            raise LaunchError(f"{request.workers} workers cannot be had", kind="capacity")
        self.launches.append(request.instance)
        agent = FakeAgent(self.store, self.clock, request, self.nonce, self.agents)
        agent.percent = self.percent.get(request.workers, 50.0)
        self.agents[request.instance] = agent

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        return {i: Sighting(self._state(self.agents[i])) for i in instances if i in self.agents}

    def terminate(self, instance: str) -> None:
        if instance in self.agents:
            self.agents[instance].ended = True

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:  # noqa: ARG002 - all cost the same
        return (Offer(instance_type, "", "on_demand", 1.0),)

    def _state(self, agent: FakeAgent) -> InstanceState:
        if agent.ended:
            return InstanceState.GONE
        return InstanceState.RUNNING if agent.booted else InstanceState.STARTING

    def alive(self) -> list[str]:
        return [instance for instance, agent in self.agents.items() if not agent.ended]


@dataclass
class InterposedFleet:
    """A fleet with `around` called for every call that changes something."""

    inner: FakeFleet
    around: Callable[[str, Callable[[], None]], None]

    @property
    def lag_s(self) -> float:
        return self.inner.lag_s

    def launch(self, request: LaunchRequest) -> None:
        self.around(f"launch {request.instance}", lambda: self.inner.launch(request))

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        return self.inner.describe(instances)

    def terminate(self, instance: str) -> None:
        self.around(f"terminate {instance}", lambda: self.inner.terminate(instance))

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:
        return self.inner.offers(resources, instance_type)


class World:
    """One job, its bucket, its fleet, and controllers that come and go."""

    def __init__(self, spec: JobSpec | None = None) -> None:
        self.spec = spec or job_spec()
        self.clock = Clock()
        self.store = MemoryStore()
        self._numbers = count(1)
        self.fleet = FakeFleet(self.store, self.clock, self.nonce)
        self.log: list[str] = []
        self.writes: list[str] = []
        """Every change that a controller made, in order."""
        self.at_write: Callable[[int, Callable[[], None]], None] = lambda _number, call: call()
        """Called for each, with its number."""
        self.epoch = 0
        self.controller = self.new_controller()
        submit_job(self.store, self.spec, self.clock.now(), self.nonce)

    def nonce(self) -> str:
        return f"{next(self._numbers):08d}"

    def new_controller(self) -> Controller:
        """A process that leads from now on, with nothing in its memory."""
        self.epoch += 1
        return Controller(
            InterposedStore(self.store, self._around_store),
            {"local": InterposedFleet(self.fleet, self._around_write)},
            now=self.clock.now,
            monotonic=self.clock.monotonic,
            nonce=self.nonce,
            still_leading=lambda: True,  # a leader that does not notice is the worst that can be
            log=self.log.append,
        )

    def tick(self, *, lead: bool = True) -> None:
        """A moment passes: the controller looks once, each agent acts once."""
        if lead:
            try:
                self.controller.tick(self.epoch)
            except Died:
                self.controller = self.new_controller()
            except Deposed:
                self.log.append("deposed")
        self.agents_act()

    def agents_act(self) -> None:
        for agent in list(self.fleet.agents.values()):
            agent.tick()
        self.clock.elapsed_s += TICK_S

    def run(self, *, until: "Callable[[World], bool] | None" = None, within_s: float = 400.0) -> "World":
        """Let time pass until it is so: by default, until nothing is left to be done."""
        until = until or World.at_rest
        give_up_s = self.clock.elapsed_s + within_s
        while not until(self):
            assert self.clock.elapsed_s < give_up_s, f"not within {within_s} s: {self.record}\n" + "\n".join(
                self.log[-20:]
            )
            self.tick()
        return self

    def ask(self, kind: Literal["cancel", "pause", "resume", "resize"], workers: int | None = None) -> str:
        """A person leaves a request."""
        sent = send_request(
            self.store, self.spec.name, kind, now=self.clock.now(), by="ada", nonce=self.nonce, workers=workers
        )
        return sent.id

    def at_rest(self) -> bool:
        """Whether nothing is left to be done: the job is over, its instances are gone, its story is told."""
        record = self.record
        told = self.store.get(layout.event_key(self.spec.name, record.last_event)) is not None
        return record.phase.over and told and not (self.fleet.alive() or record.retired or record.uses)

    @property
    def record(self) -> JobRecord:
        """The record as the bucket has it."""
        return load_record(self.store, self.spec.name).value

    @property
    def head(self) -> Head:
        stored = load_head(self.store, self.spec.name)
        assert stored is not None
        return stored.value

    @property
    def events(self) -> list[Event]:
        return list(read_events(self.store, self.spec.name))

    @property
    def step(self) -> int:
        """How far the workers are."""
        return max((agent._step for agent in self.fleet.agents.values() if not agent.ended), default=0)

    def result(self) -> str:
        """The last link of the chain, as the bucket has it."""
        assert self.head.checkpoint is not None
        found = self.store.get(f"{self.head.checkpoint}state")
        assert found is not None
        return found.body.decode().split()[1]

    def objects(self) -> list[str]:
        """The keys of all that is in the bucket for instances."""
        return [entry.key for entry in self.store.list(layout.INSTANCES)]

    def _around_store(self, operation: Operation, key: str, call: Callable[[], object]) -> object:
        if operation not in WRITES:
            return call()
        answers: list[object] = []
        self._around_write(f"{operation} {key}", lambda: answers.append(call()))
        return answers[0]

    def _around_write(self, what: str, call: Callable[[], None]) -> None:
        self.writes.append(what)
        self.at_write(len(self.writes), call)


def die_at(world: World, numbers: Iterable[int], *, applied: bool) -> None:
    """The controller is killed at these of its writes, after or before they are applied."""
    deadly = set(numbers)

    def maybe_die(number: int, call: Callable[[], None]) -> None:
        if number not in deadly:
            call()
            return
        if applied:
            call()
        raise Died

    world.at_write = maybe_die
