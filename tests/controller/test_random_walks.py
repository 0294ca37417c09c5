"""Whatever happens, in whatever order: no decision breaks a rule, and the job can still end well.

What holds at every single decision is checked by the scene itself (`tests.controller.builders`): twice the same answer,
rest after a few rounds, no event told twice, no launch of what is there, no seal backwards, no illegal transition.
"""

import random
from dataclasses import replace

import pytest

from orchestrator.controller.effects import Assign
from orchestrator.controller.observation import LaunchFailure
from orchestrator.fleets.protocol import InstanceState
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.instances import TrainerExit, TrainerProgress, Utilization
from orchestrator.jobs.phases import JobPhase
from tests.controller.builders import Scene
from tests.controller.test_wishes import Kind, finish
from tests.support.specs import job_spec

WALKS, STEPS = 100, 80
EXPLAINED = set(EventKind) - {EventKind.SUBMITTED, EventKind.REQUESTED, EventKind.REQUEST_REFUSED}
NOT_BY_CHANCE = {
    EventKind.SUBMITTED,
    EventKind.CANCELLED,
    EventKind.CHECKPOINT_REJECTED,
    EventKind.CHECKPOINT_FAILED,
    EventKind.PREEMPTION_NOTICE,
}


class Walk:
    """A scene to which things happen by chance."""

    def __init__(self, seed: int, *, limits: dict[str, float] | None = None) -> None:
        self.chance = random.Random(seed)
        spec = job_spec(
            sizes=(1, 2, 4),
            instances=self.chance.choice([1, 2]),
            limits={"max_failures": self.chance.choice([0, 3, 100]), **(limits or {})},
            scaling={"window": 2.0, "warm_up": 1.0, "cooldown": 5.0},
        )
        self.scene = Scene(spec, price_usd_per_hour=1.0)
        self.assigned: dict[str, tuple[int, int]] = {}

    def step(self) -> None:
        """One thing happens; then the controller decides, and dies before it is done as often as not."""
        things = [
            self.time_passes, self.time_passes, self.an_agent_acts, self.an_agent_acts, self.an_agent_acts,
            self.a_checkpoint_is_committed, self.an_instance_goes, self.an_instance_falls_silent, self.a_person_asks,
            self.a_new_leader, self.capacity_changes, self.the_fleet_dawdles,
        ]  # fmt: skip
        self.chance.choice(things)()
        for _ in range(self.chance.randint(1, 4)):
            decision = self.scene.decide()
            for instance, view in self.scene.views.items():
                self.scene.views[instance] = replace(view, launch_failure=None)
            done = self.chance.choice([len(decision.effects), self.chance.randint(0, len(decision.effects))])
            for effect in decision.effects[:done]:
                self._check_order(effect)
                self.scene.apply(effect)

    def _check_order(self, effect: object) -> None:
        """Nobody is ever told of an older leader or generation than before."""
        if isinstance(effect, Assign):
            order = (effect.assignment.generation, effect.assignment.epoch)
            assert order >= self.assigned.get(effect.instance, (0, 0))
            self.assigned[effect.instance] = order

    def time_passes(self) -> None:
        self.scene.pass_time(self.chance.choice([0.1, 1, 5, 30, 200, 700]))

    def an_agent_acts(self) -> None:
        alive = sorted(self.scene.alive())
        if not alive:
            return
        instance = self.chance.choice(alive)
        assignment, beat = self.scene.view(instance).assignment, self.scene.view(instance).heartbeat
        if beat is not None and beat.state == "leaving":
            self._goes(instance)
            return
        if assignment is None or (beat is not None and beat.exit and beat.generation == assignment.generation):
            idle = "ready" if beat is None or beat.exit is None else "stopped"
            self.scene.says(instance, self.chance.choice([idle, idle, "leaving"]))
            return
        step = self.chance.randint(1, 100)
        outcome = self.chance.choice(["running"] * 4 + ["finished", "drained", "failed", "restoring"])
        exited = None
        if outcome in ("finished", "drained", "failed"):
            exited = TrainerExit.model_validate({"outcome": outcome, "code": 1, "message": outcome, "step": step})
        generation = self.scene.record.generation
        percent = 5.0 if generation and generation.rung and self.chance.random() < 0.7 else 95.0
        self.scene.says(
            instance,
            outcome if exited is None else self.chance.choice(["stopped", "leaving"]),
            generation=assignment.generation,
            epoch=assignment.epoch,
            progress=None if outcome == "restoring" else TrainerProgress(step=step, total_steps=100),
            utilization=Utilization(source="cpu", percents=(percent,) * 5, count=5) if outcome == "running" else None,
            exit=exited,
            notices=[{"number": self.chance.randint(1, 3), "kind": "note", "message": "a note"}],
        )

    def a_checkpoint_is_committed(self) -> None:
        generation, head = self.scene.record.generation, self.scene.head
        if generation is not None and head is not None and head.generation == generation.number:
            step = head.step + self.chance.randint(1, 5)
            name = f"jobs/digits/checkpoints/{step:012d}-g{generation.number:06d}/"
            self.scene.head = head.model_copy(update={"checkpoint": name, "step": step})

    def an_instance_goes(self) -> None:
        known = sorted(self.scene.views)
        if known and self.chance.random() < 0.4:
            self._goes(self.chance.choice(known))

    def _goes(self, instance: str) -> None:
        self.scene.views[instance] = replace(self.scene.view(instance), state=InstanceState.GONE)

    def an_instance_falls_silent(self) -> None:
        alive = sorted(self.scene.alive())
        if alive:
            instance = self.chance.choice(alive)
            view = self.scene.view(instance)
            self.scene.views[instance] = replace(view, silent_s=self.chance.choice([31.0, 400.0]))

    def a_person_asks(self) -> None:
        kinds: list[Kind | None] = [None, None, None, "pause", "resume", "resume", "resize"]
        kind = self.chance.choice(kinds)
        if kind is not None:
            self.scene.ask(kind, self.chance.choice([None, 1, 2, 4, 8]) if kind == "resize" else None)

    def a_new_leader(self) -> None:
        self.scene.epoch += 1

    def capacity_changes(self) -> None:
        workers = self.chance.choice([1, 2, 4])
        self.scene.refusals[workers] = LaunchFailure("no capacity", kind="capacity")
        if self.chance.random() < 0.7:
            self.scene.refusals.clear()

    def the_fleet_dawdles(self) -> None:
        self.scene.lingering = set(self.chance.sample(sorted(self.scene.views), k=len(self.scene.views) // 2))

    def quiet(self) -> Scene:
        """Trouble ends: what was asked is resumed, and the fleet does as it is told."""
        self.scene.refusals.clear()
        self.scene.lingering.clear()
        for instance in self.scene.alive():
            beat = self.scene.view(instance).heartbeat
            if beat is not None and beat.state == "leaving":
                self._goes(instance)
            else:
                self.scene.says(instance, beat.state if beat else "ready")
        return self.scene.settle().obey()


@pytest.mark.parametrize("seed", range(WALKS))
def test_a_job_survives_whatever_happens(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.step()
    scene = walk.quiet()
    if not scene.record.phase.over:
        if scene.record.wanted == "pause":
            scene.ask("resume")
        finish(scene)
        assert scene.phase in (JobPhase.SUCCEEDED, JobPhase.FAILED)
    assert scene.alive() == set()
    assert (scene.record.retired, scene.record.uses, scene.requests) == ((), (), [])
    assert all(event.inputs for event in scene.events if event.kind in EXPLAINED)
    numbers = [event.number for event in scene.events]
    assert numbers == sorted(set(numbers))


def test_the_walks_go_everywhere() -> None:
    """Walks that met no trouble would prove nothing."""
    kinds: set[EventKind] = set()
    phases: set[JobPhase] = set()
    for seed in range(WALKS // 2):
        walk = Walk(seed)
        for _ in range(STEPS):
            walk.step()
            phases.add(walk.scene.phase)
        kinds.update(walk.scene.kinds())
    assert set(EventKind) - kinds <= NOT_BY_CHANCE
    assert phases == set(JobPhase) - {JobPhase.CANCELLED}
