"""Losses that people really had, elsewhere: one history each, lived through by the real controller and agents.

Each world here has one job of a few minutes and no fault but the one that is told.
"""

from collections.abc import Callable
from random import Random
from typing import NoReturn

import pytest

from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record
from orchestrator.jobs.events import Event, EventKind, read_events
from orchestrator.jobs.head import load_head
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import JobRecord
from orchestrator.simulator.cloud import Instance
from orchestrator.simulator.machine import SimulatedAgent
from orchestrator.simulator.timeline import Died
from orchestrator.simulator.trainer import Course
from orchestrator.simulator.world import SimulatedJob, World
from orchestrator.spec.models import JobSpec
from tests.support.specs import job_spec

COURSE = Course(steps=120, steps_per_s=0.5)
"""Four minutes on one worker."""
LOOK_EVERY_S = 2.0


class Calm:
    """A world in which nothing goes wrong by itself."""

    def __init__(self, spec: JobSpec | None = None, course: Course = COURSE, *, jobs: int = 1) -> None:
        self.world = World(Random(7))
        self.world.faults.calm()
        self.names: list[str] = []
        self._spec, self._course = spec or job_spec(sizes=(1,)), course
        self.add_jobs(jobs)
        self.name = self.names[0]
        self.daemon = self.world.add_daemon()

    def add_jobs(self, count: int) -> None:
        """Somebody submits so many more of the same."""
        for number in range(len(self.names), len(self.names) + count):
            mine = self._spec.model_copy(update={"name": f"digits{number}"})
            self.world.add_job(SimulatedJob(mine, self._course))
            self.world.people.submit(mine)
            self.names.append(mine.name)

    def until(self, is_so: Callable[[], bool], within_s: float = 3600.0) -> None:
        """Let time pass until it is so."""
        give_up_s = self.world.timeline.now_s + within_s
        while not is_so() and self.world.timeline.now_s < give_up_s:
            self.passes(LOOK_EVERY_S)
        assert is_so(), f"not within {within_s:.0f} s: {self.record.reason}"

    def passes(self, seconds: float) -> None:
        self.world.timeline.run(self.world.timeline.now_s + seconds)

    @property
    def record(self) -> JobRecord:
        return load_record(self.world.bucket.store, self.name).value

    @property
    def events(self) -> list[Event]:
        return list(read_events(self.world.bucket.store, self.name))

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]

    def instances(self) -> list[Instance]:
        return list(self.world.cloud.instances.values())

    def agent(self, name: str) -> SimulatedAgent:
        return self.world.agents[name]

    @property
    def step(self) -> int:
        head = load_head(self.world.bucket.store, self.name)
        return head.value.step if head else 0

    def trains(self) -> bool:
        return self.step > 0

    def is_over(self) -> bool:
        """Over, and nothing is left to do or to pay for."""
        store = self.world.bucket.store
        if not self.world.people.submitted.issuperset(self.names):
            return False
        return not self.world.cloud.live() and not any(store.get(layout.todo_key(name)) for name in self.names)

    def finish(self, within_s: float = 7200.0) -> None:
        """It comes to its end, undisturbed in its result."""
        self.until(self.is_over, within_s)
        assert self.record.phase is JobPhase.SUCCEEDED, self.record.reason
        assert self.step == self.world.jobs[self.name].course.steps

    def daemon_dies(self) -> NoReturn:
        """To be called from within one of its calls: nothing comes after it."""
        assert self.daemon.process is not None
        self.daemon.process.die()
        raise Died


def training(spec: JobSpec | None = None, course: Course = COURSE, *, jobs: int = 1) -> Calm:
    calm = Calm(spec, course, jobs=jobs)
    calm.until(calm.trains)
    return calm


def test_killed_between_the_launch_and_the_record_of_it() -> None:
    """A paid instance that nobody knows: here the intent is written first, and the next controller adopts it."""
    calm = Calm()
    deaths: list[str] = []

    def die_at_launch(instance: Instance, what: str) -> None:
        if what == "launched" and not deaths:
            deaths.append(instance.name)
            calm.daemon_dies()

    calm.world.cloud.watchers.append(die_at_launch)
    calm.finish()
    assert deaths == ["digits0-g1-n0-a0"]
    assert len(calm.instances()) == 1


def test_killed_before_the_launch_that_was_written_down() -> None:
    calm = Calm()
    intents: list[list[Instance]] = []

    def die_at_intent(_by: str, key: str, body: bytes | None) -> None:
        if key == layout.record_key(calm.name) and b"digits0-g1-n0-a0" in (body or b"") and not intents:
            intents.append(calm.instances())
            calm.daemon_dies()

    calm.world.bucket.watchers.append(die_at_intent)
    calm.finish()
    assert intents == [[]]
    assert len(calm.instances()) == 1


def test_the_record_says_ended_while_the_cloud_still_bills() -> None:
    """Ending takes minutes: the job is not done with its instance before the cloud says that it is gone."""
    calm = training()
    (instance,) = calm.instances()
    instance.clings = True
    calm.until(lambda: calm.record.phase is JobPhase.SUCCEEDED)
    assert instance.live
    assert calm.record.retired == (instance.name,)
    assert [use.instance for use in calm.record.uses] == [instance.name]
    calm.finish()
    assert not calm.record.retired
    assert not calm.record.uses


def test_the_fleet_is_gone_while_somebody_submits() -> None:
    """The cloud answers nobody: the job waits, and nothing of the submit is lost."""
    calm = Calm()
    calm.world.cloud.away_until_s = 900.0
    calm.passes(600.0)
    assert calm.record.phase is JobPhase.PENDING
    assert calm.instances() == []
    calm.finish()


def test_a_slow_health_check_destroys_no_healthy_job() -> None:
    """Four minutes without a heartbeat, and training goes on: nothing is ended, nothing is started."""
    calm = training(course=Course(steps=400, steps_per_s=0.5))
    (instance,) = calm.instances()
    agent = calm.agent(instance.name)
    agent.store.cut_until_s = calm.world.timeline.now_s + 240.0
    calm.passes(240.0)
    assert instance.live
    calm.finish()
    assert EventKind.UNRESPONSIVE in calm.kinds()
    assert len(calm.instances()) == 1
    assert calm.record.lost_steps == 0


def test_an_undetected_preemption_does_not_double_a_job_of_an_hour() -> None:
    """Taken away without notice after 30 minutes: noticed at once, and at most one checkpoint interval is lost."""
    hour = Course(steps=1800, steps_per_s=0.5)
    calm = training(job_spec(sizes=(1,), checkpoint={"every": 60.0}), hour)
    calm.passes(1800.0)
    (instance,) = calm.instances()
    calm.world.cloud.preempt(instance, notice=False)
    calm.finish()
    assert 0 < calm.record.lost_steps <= 60 * 0.5 + 15
    assert calm.world.timeline.now_s < 3600.0 + 60.0 + 300.0


def test_a_controller_that_starts_again_does_not_take_running_jobs_for_failed() -> None:
    calm = training(course=Course(steps=300, steps_per_s=0.5))
    for _ in range(4):
        assert calm.daemon.process is not None
        calm.daemon.process.die()
        calm.passes(60.0)
        assert calm.record.phase is JobPhase.RUNNING
    calm.finish()
    assert calm.record.last_generation == 1
    assert EventKind.WORKER_FAILED not in calm.kinds()


def test_2000_cancels_at_once_lock_nothing_up() -> None:
    """Ten of the jobs train, all others wait: within a few looks of the controller all of them are cancelled."""
    calm = Calm(jobs=10)
    calm.until(calm.trains)
    calm.add_jobs(1990)
    calm.passes(1.0)
    for name in calm.names:
        calm.world.people.ask(name, "cancel")
    calm.passes(30.0)
    phases = {load_record(calm.world.bucket.store, name).value.phase for name in calm.names}
    assert phases == {JobPhase.CANCELLED}
    assert calm.world.cloud.live() == []


def test_an_instance_that_came_late_is_not_taken_for_silent() -> None:
    """Capacity comes back after ten minutes: the first instance that there is then is the one that is used."""
    calm = Calm()
    calm.world.cloud.lacks(600.0)
    calm.finish()
    assert len(calm.instances()) == 1


def test_200_spot_jobs_at_once() -> None:
    """All taken away in one moment, and there is no capacity for a while: all of them come to their end."""
    jobs = 200
    calm = Calm(course=Course(steps=40, steps_per_s=0.5), jobs=jobs)
    calm.until(calm.trains)
    for instance in calm.world.cloud.live():
        calm.world.cloud.preempt(instance, notice=False)
    calm.world.cloud.lacks(calm.world.timeline.now_s + 60.0)
    calm.until(calm.is_over)
    phases = {load_record(calm.world.bucket.store, name).value.phase for name in calm.names}
    assert phases == {JobPhase.SUCCEEDED}
    assert len(calm.instances()) <= 2 * jobs


@pytest.mark.parametrize("why", ["finished", "cancelled"])
def test_the_tail_of_the_log_is_there(why: str) -> None:
    """What workers printed last is shipped before the instance ends: also when the job is stopped."""
    calm = training()
    if why == "cancelled":
        calm.world.people.ask(calm.name, "pause")
    calm.until(lambda: calm.record.phase in (JobPhase.SUCCEEDED, JobPhase.PAUSED))
    store, log = calm.world.bucket.store, layout.logs_prefix(calm.name, 1, layout.rank_stream(0))
    chunks = [found.body.decode() for entry in store.list(log) if (found := store.get(entry.key))]
    assert "".join(chunks).splitlines()[-1] == f"step {calm.step}"


def test_checkpoints_that_silently_come_to_nothing_are_told() -> None:
    """The bucket takes heartbeats and no checkpoints, and training goes on: a person is told, and told why."""
    calm = training(job_spec(sizes=(1,), checkpoint={"every": 20.0}), Course(steps=900, steps_per_s=0.5))
    (instance,) = calm.instances()
    agent = calm.agent(instance.name)
    whole = agent.store.upload_bytes

    def refuse(key: str, body: bytes) -> str:
        raise PermissionError(f"no right to write {key}")

    agent.store.upload_bytes = refuse  # type: ignore[method-assign]
    calm.passes(900.0)
    told = [event.message for event in calm.events if event.kind is EventKind.CHECKPOINT_FAILED]
    assert any("no right to write" in message for message in told)
    assert any("training goes on, but nothing of it was committed for" in message for message in told), told
    agent.store.upload_bytes = whole  # type: ignore[method-assign]
    calm.finish()


def test_one_lost_node_tears_down_no_other() -> None:
    """Of two instances one is lost: the other is kept, and only what is missing is launched."""
    calm = training(job_spec(sizes=(1,), instances=2), Course(steps=300, steps_per_s=0.5))
    first, second = calm.instances()
    calm.world.cloud.preempt(second, notice=False)
    calm.until(lambda: calm.record.last_generation == 2 and calm.step > 60)
    assert first.live
    calm.finish()
    assert len(calm.instances()) == 3


def test_a_trainer_that_stands_still_does_not_run_for_ever() -> None:
    """No step for the stated time: started again, with the stacks of the workers in the log; then it fails."""
    spec = job_spec(sizes=(1,), limits={"stall": 300.0, "max_failures": 1})
    calm = Calm(spec)
    gangs = calm.world.jobs[calm.name].gangs
    for generation in (1, 2):
        calm.until(lambda number=generation: number in gangs and gangs[number].running)  # type: ignore[misc]
        gangs[generation].stand_still()
    calm.until(calm.is_over)
    assert calm.record.phase is JobPhase.FAILED
    assert "no new step for" in calm.record.reason
    store = calm.world.bucket.store
    first = layout.logs_prefix(calm.name, 1, layout.rank_stream(0))
    printed = b"".join(found.body for entry in store.list(first) if (found := store.get(entry.key)))
    assert b"most recent call first" in printed


def test_a_trainer_that_stands_still_ends_also_if_no_controller_ever_returns() -> None:
    calm = training(job_spec(sizes=(1,), limits={"stall": 300.0}))
    (instance,) = calm.instances()
    calm.daemon.returns = False
    assert calm.daemon.process is not None
    calm.daemon.process.die()
    calm.world.jobs[calm.name].gangs[1].stand_still()
    calm.until(lambda: not instance.live, within_s=2 * 300.0 + 300.0 + 120.0)
