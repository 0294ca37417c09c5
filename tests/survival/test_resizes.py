"""A resize changes the speed and not one bit: checkpoint, seal, resume at another size."""

from pathlib import Path

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.survival.light_job import STEPS, LightJob
from tests.survival.system import System


def trains_on(system: System, workers: int, *, after: int) -> bool:
    """Whether a later generation is stepping on so many workers."""
    generation = system.record.generation
    started = generation is not None and generation.number > after and system.step > 0
    return started and len(system.processes("rank")) == workers


def test_from_one_worker_to_two_and_back_by_hand(system: System, undisturbed: str) -> None:
    system.submit()
    for workers in (2, 1):
        generation = system.record.last_generation
        system.wait(lambda: system.step > 0, "training")
        system.run("resize", "tiny", "--workers", str(workers), "--no-daemon")
        system.wait(lambda: trains_on(system, workers, after=generation), f"{workers} workers train")  # noqa: B023
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert system.digest() == undisturbed
    assert system.record.resizes == 2
    assert system.record.lost_steps == 0, system.story()
    system.wait_until_quiet()


def test_by_measured_utilisation_without_a_person(system: System, undisturbed: str) -> None:
    system.submit(scaling={"up_above": 20, "down_below": 10, "window": "2s", "warm_up": "1s", "cooldown": "1h"})
    system.wait_for_phase(JobPhase.SUCCEEDED)
    [event] = system.events(EventKind.SCALE_UP)
    assert event.inputs["utilization_percent"] > event.inputs["up_above"]
    assert event.inputs["sources"] == ["cpu"] or event.inputs["sources"] == ["nvml"]
    assert "from 1 to 2 workers" in event.message
    assert system.digest() == undisturbed
    assert system.record.lost_steps == 0, system.story()


def test_the_old_generation_trains_until_the_new_instances_are_ready(system: System, tmp_path: Path) -> None:
    job = LightJob(tmp_path)
    system.submit(**job.changes)
    system.wait(lambda: system.step > 0, "training")
    system.run("resize", "tiny", "--workers", "2", "--no-daemon")
    system.wait(lambda: trains_on(system, 2, after=1), "two workers train")
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    events = system.events()
    resized = next(i for i, event in enumerate(events) if event.kind is EventKind.RESIZE)
    order = [event.kind for event in events[resized:] if event.kind is not EventKind.NOTE]
    assert order[:5] == [
        EventKind.RESIZE,
        EventKind.PROVISIONING,
        EventKind.DRAINING,  # only now that the new instance is ready
        EventKind.GENERATION_ENDED,
        EventKind.STARTING,
    ], system.story()
    assert system.record.lost_steps == 0


def test_a_paused_job_holds_nothing_and_goes_on_where_it_was(system: System, tmp_path: Path) -> None:
    job = LightJob(tmp_path)
    system.submit(**job.changes)
    system.wait_for_random_step()
    system.run("pause", "tiny", "--no-daemon")
    system.wait_for_phase(JobPhase.PAUSED)
    assert not system.instance_processes()
    system.run("resume", "tiny", "--no-daemon")
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert system.digest() == job.result
    assert job.steps() == list(range(1, STEPS + 1))
    assert system.record.lost_steps == 0, system.story()
