"""A resize changes the speed and not one bit: checkpoint, seal, resume at another size."""

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.survival.system import System


def test_from_one_worker_to_two_and_back_by_hand(system: System, undisturbed: str) -> None:
    system.submit()
    for workers in (2, 1):
        generation = system.record.last_generation
        system.wait(lambda: system.step > 0, "training")
        system.run("resize", "tiny", "--workers", str(workers), "--no-daemon")
        system.wait(
            lambda generation=generation: (
                (g := system.record.generation) is not None  # type: ignore[misc]
                and g.number > generation
                and system.step > 0
            ),
            f"{workers} workers train",
        )
        assert len(system.processes("rank")) == workers
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


def test_the_old_generation_trains_until_the_new_instances_are_ready(system: System) -> None:
    system.submit()
    system.wait(lambda: system.step > 0, "training")
    system.run("resize", "tiny", "--workers", "2", "--no-daemon")
    system.wait_for_phase(JobPhase.SUCCEEDED)
    kinds = [e.kind for e in system.events()]
    provisioning = [i for i, kind in enumerate(kinds) if kind is EventKind.PROVISIONING][-1]
    assert (
        kinds[provisioning:][:4]
        == [
            EventKind.PROVISIONING,
            EventKind.DRAINING,
            EventKind.GENERATION_ENDED,
            EventKind.STARTING,
        ]
        or EventKind.NOTE in kinds
    ), system.story()


def test_a_paused_job_holds_nothing_and_goes_on_where_it_was(system: System, undisturbed: str) -> None:
    system.submit()
    system.wait_for_random_step()
    system.run("pause", "tiny", "--no-daemon")
    system.wait_for_phase(JobPhase.PAUSED)
    assert not system.instance_processes()
    system.run("resume", "tiny", "--no-daemon")
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert system.digest() == undisturbed
    assert system.record.lost_steps == 0, system.story()
