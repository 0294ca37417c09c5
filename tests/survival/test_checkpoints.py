"""A torn or altered checkpoint is never loaded; a full disk fails a checkpoint, not the job."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.survival.light_job import LightJob
from tests.survival.system import System, alter, tear


def pause_with_two_checkpoints(system: System, job: LightJob) -> str:
    """A paused job with at least two checkpoints; returns the prefix of the one that it would resume from."""
    system.submit(**job.changes)
    system.wait(lambda: len(list(system.store.prefixes("jobs/tiny/checkpoints/"))) >= 2, "two checkpoints")
    system.run("pause", "tiny", "--no-daemon")
    system.wait_for_phase(JobPhase.PAUSED)
    checkpoint = system.head.checkpoint
    assert checkpoint is not None
    return checkpoint


@pytest.mark.parametrize("damage", [alter, tear])
def test_the_one_before_is_loaded_and_an_event_says_so(
    system: System, tmp_path: Path, damage: Callable[[System, str], None]
) -> None:
    job = LightJob(tmp_path)
    newest = pause_with_two_checkpoints(system, job)
    step = system.head.step
    damage(system, newest)
    system.run("resume", "tiny", "--no-daemon")
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    [rejected] = system.events(EventKind.CHECKPOINT_REJECTED)
    assert newest.rstrip("/").split("/")[-1] in rejected.message
    generation = system.record.generation
    assert generation is not None
    assert 0 < generation.resume_step < step, system.story()
    assert system.record.lost_steps == step - generation.resume_step
    assert system.digest() == job.result


def test_without_a_sound_checkpoint_it_starts_anew(system: System, tmp_path: Path) -> None:
    job = LightJob(tmp_path)
    pause_with_two_checkpoints(system, job)
    for name in list(system.store.prefixes("jobs/tiny/checkpoints/")):
        alter(system, f"jobs/tiny/checkpoints/{name}/")
    system.run("resume", "tiny", "--no-daemon")
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert len(system.events(EventKind.CHECKPOINT_REJECTED)) >= 2
    assert system.digest() == job.result


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a checkpoint or two."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900m", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(ballast: Path) -> None:
    """Write until the file system is full."""
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024 * 1024))


def failures(system: System) -> list[str]:
    """What events say of checkpoints that found no room."""
    events = system.events(EventKind.NOTE, EventKind.CHECKPOINT_FAILED)
    return [event.message for event in events if "full" in event.message or "space" in event.message]


def agent_log(system: System) -> str:
    return "".join(path.read_text() for path in system.state.rglob("agent.log"))


@pytest.mark.requires("tmpfs")
@pytest.mark.parametrize("full", ["state", "store"])
def test_a_full_disk_fails_the_checkpoint_and_not_the_job(
    tmp_path: Path, small_disk: Path, undisturbed: str, full: str
) -> None:
    (tmp_path / "store").mkdir()
    if full == "store":
        subprocess.run(["mount", "--bind", str(small_disk), str(tmp_path / "store")], check=True)
    system = System.at(tmp_path, seed=1, state=small_disk if full == "state" else None)
    try:
        system.start_daemon()
        system.submit()
        system.wait(lambda: system.step > 0, "training")
        fill(small_disk / "ballast")
        # A store that is full takes no event either: then it is the agent's log that tells, and the event comes later.
        told = (
            (lambda: bool(failures(system)))
            if full == "state"
            else (lambda: "could not be committed" in agent_log(system))
        )
        system.wait(told, "the failure is told")
        (small_disk / "ballast").unlink()
        system.wait_for_phase(JobPhase.SUCCEEDED)
        assert failures(system)
        assert system.record.last_generation == 1, system.story()
        assert system.digest() == undisturbed
    finally:
        system.close()
        if full == "store":
            subprocess.run(["umount", "--lazy", str(tmp_path / "store")], check=True)
