"""Whatever is killed, at a random moment: the job goes on by itself, and its final weights are the undisturbed ones."""

import shutil
from pathlib import Path

import pytest

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.survival.light_job import STEPS, LightJob
from tests.survival.system import System


def succeeds_with(system: System, digest: str) -> None:
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert system.digest() == digest, system.story()
    system.wait_until_quiet()


def nothing_committed_is_lost(system: System, committed: int) -> None:
    """The next generation resumes from what was committed before the kill, or from something newer."""
    generation = system.record.generation
    assert generation is not None
    assert generation.number > 1
    assert generation.resume_step >= committed > 0, system.story()


def test_a_rank_is_killed(system: System, undisturbed: str) -> None:
    system.submit()
    system.wait_for_random_step()
    committed = system.committed_step
    system.kill("rank")
    succeeds_with(system, undisturbed)
    assert system.events(EventKind.WORKER_FAILED)
    nothing_committed_is_lost(system, committed)


def test_one_rank_of_two_is_killed(system: System, undisturbed: str) -> None:
    system.submit(scaling={"min": 2, "window": "10m"})
    system.wait_for_random_step()
    committed = system.committed_step
    system.processes("rank")[system.rng.randrange(2)].kill()
    succeeds_with(system, undisturbed)
    nothing_committed_is_lost(system, committed)


def test_the_agent_is_killed_and_no_worker_outlives_it(system: System, undisturbed: str) -> None:
    system.submit()
    system.wait_for_random_step()
    workers = system.processes("rank") + system.processes("launcher")
    committed = system.committed_step
    system.kill("agent")
    system.wait(lambda: not any(worker.is_running() for worker in workers), "the workers are gone", bound_s=10)
    succeeds_with(system, undisturbed)
    assert system.events(EventKind.INSTANCE_LOST)
    nothing_committed_is_lost(system, committed)


def test_the_controller_is_killed_and_training_does_not_notice(system: System, tmp_path: Path) -> None:
    job = LightJob(tmp_path)
    system.submit(**job.changes)
    system.wait_for_random_step()
    system.kill("daemon")
    before = system.step
    system.wait(lambda: system.step > before, "training goes on without a controller")
    system.start_daemon()
    job.let_finish()
    succeeds_with(system, job.result)
    assert job.steps() == list(range(1, STEPS + 1))
    assert system.record.last_generation == 1, system.story()
    assert system.events(EventKind.LEADER_CHANGED)


def test_a_job_that_ends_while_no_controller_is_there(system: System, tmp_path: Path) -> None:
    job = LightJob(tmp_path)
    system.submit(**job.changes)
    system.wait_for_random_step()
    system.kill("daemon")
    job.let_finish()
    system.wait(lambda: system.head.final, "the last checkpoint is committed without a controller")
    assert system.record.phase is JobPhase.RUNNING
    system.start_daemon()
    succeeds_with(system, job.result)
    assert system.record.last_generation == 1, system.story()


def test_everything_is_killed_at_once(system: System, undisturbed: str) -> None:
    system.submit()
    system.wait_for_random_step()
    committed = system.committed_step
    system.kill("daemon", "agent", "launcher", "rank")
    system.start_daemon()
    succeeds_with(system, undisturbed)
    assert system.record.last_generation == 2, system.story()
    nothing_committed_is_lost(system, committed)


def test_a_reboot_leaves_nothing_but_the_store(system: System, tmp_path: Path) -> None:
    job = LightJob(tmp_path)
    system.submit(**job.changes)
    system.wait_for_random_step()
    committed = system.committed_step
    system.kill("daemon", "agent", "launcher", "rank")
    shutil.rmtree(system.state)
    system.start_daemon()
    job.let_finish()
    succeeds_with(system, job.result)
    nothing_committed_is_lost(system, committed)


def test_an_agent_that_is_asked_to_end_loses_nothing(system: System, undisturbed: str) -> None:
    system.submit()
    system.wait_for_random_step()
    system.processes("agent")[0].terminate()
    succeeds_with(system, undisturbed)
    assert system.record.lost_steps == 0, system.story()
    assert system.record.generation is not None
    assert system.record.generation.cause == "preemption"


@pytest.mark.timeout(450)
def test_kill_after_kill_while_it_is_resized(system: System, undisturbed: str) -> None:
    """One rank, the agent, the controller, in a random order, and between them from one worker to two and back."""
    system.submit()
    for victim, workers in zip(system.rng.sample(("rank", "agent", "daemon"), k=3), (2, 1, 2), strict=True):
        done = system.committed_step
        system.wait(lambda done=done: system.step > 0 and system.committed_step > done, "a new checkpoint")  # type: ignore[misc]
        system.run("resize", "tiny", "--workers", str(workers), "--no-daemon")
        if victim == "daemon":
            system.kill("daemon")
            system.start_daemon()
        else:  # it may just be gone, for the resize ends it too
            system.kill_those_there("rank" if victim == "rank" else "agent")
    succeeds_with(system, undisturbed)
