"""Cancelling, in any phase, leaves no process and no instance."""

from pathlib import Path

import pytest

from orchestrator.jobs.phases import GenerationPhase, JobPhase
from tests.survival.light_job import LightJob
from tests.survival.system import System


@pytest.mark.parametrize(
    "phase",
    [GenerationPhase.PROVISIONING, GenerationPhase.STARTING, GenerationPhase.TRAINING, GenerationPhase.DRAINING],
)
def test_cancel_leaves_no_process(system: System, tmp_path: Path, phase: GenerationPhase) -> None:
    job = LightJob(tmp_path)
    if phase is GenerationPhase.STARTING:
        job.hold()  # else the phase might have passed before anybody looks, as when it drains
    system.submit(**({} if phase is GenerationPhase.TRAINING else job.changes))
    if phase is GenerationPhase.DRAINING:
        system.wait(lambda: system.step > 0, "training")
        for rank in system.processes("rank"):
            rank.suspend()
        system.run("pause", "tiny", "--no-daemon")
    system.wait_for_generation(phase)
    system.run("cancel", "tiny", "--yes", "--no-daemon")
    system.wait_for_phase(JobPhase.CANCELLED)
    assert not system.instance_processes(), system.story()


def test_cancel_before_any_controller_was_there(system: System, tmp_path: Path) -> None:
    system.kill("daemon")
    system.submit(**LightJob(tmp_path).changes)
    system.run("cancel", "tiny", "--yes", "--no-daemon")
    system.start_daemon()
    system.wait_for_phase(JobPhase.CANCELLED)
    assert system.record.last_generation == 0, system.story()


def test_cancel_of_a_paused_job(system: System, tmp_path: Path) -> None:
    system.submit(**LightJob(tmp_path).changes)
    system.wait_for_random_step()
    system.run("pause", "tiny", "--no-daemon")
    system.wait_for_phase(JobPhase.PAUSED)
    system.run("cancel", "tiny", "--yes", "--no-daemon")
    system.wait_for_phase(JobPhase.CANCELLED)
    assert not system.instance_processes()
