"""The store is a bucket: everything that holds on a directory holds there, and while it does not answer."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.store.lease import read_lease
from tests.support.s3_servers import seaweed_server, seaweed_store  # noqa: F401
from tests.survival.light_job import STEPS, LightJob
from tests.survival.system import JOB, System, kill_all

pytestmark = pytest.mark.requires("seaweedfs")

AWAY_S = 20.0


@pytest.fixture
def system(tmp_path: Path, seaweed_store: str) -> Iterator[System]:  # noqa: F811
    system = System.at(tmp_path, seed=int(os.environ.get("ELASTIC_TEST_SEED", "0")), store_url=seaweed_store)
    try:
        yield system
    finally:
        kill_all(background_daemons(system))
        system.close()


def background_daemons(system: System) -> list[psutil.Process]:
    """Those that commands have started; they are nobody's children."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "daemon" in command and "--background" in command and system.store.url in command:
            found.append(process)
    return found


@pytest.mark.timeout(450)
def test_agent_and_controller_are_killed_before_a_resize_and_no_bit_is_lost(system: System, undisturbed: str) -> None:
    system.submit(daemon=True)
    system.wait_for_random_step()
    committed = system.committed_step
    [daemon] = background_daemons(system)
    daemon.kill()
    system.kill("agent")
    system.run("resize", JOB, "--workers", "2")  # brings another controller
    system.wait(lambda: len(system.processes("rank")) == 2, "two workers")
    assert daemon.pid not in [other.pid for other in background_daemons(system)]
    system.wait_for_phase(JobPhase.SUCCEEDED)
    generation = system.record.generation
    assert generation is not None
    assert generation.resume_step >= committed > 0
    assert system.record.resizes == 1
    assert system.digest() == undisturbed, system.story()
    system.wait_until_quiet()


@pytest.mark.timeout(450)
def test_the_store_stands_still_and_training_goes_on(
    system: System,
    seaweed_server: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    job = LightJob(tmp_path)
    system.submit(**job.changes)
    system.start_daemon()
    system.wait(lambda: system.step > 0 and system.committed_step > 0, "a checkpoint")
    with standing_still(seaweed_server):
        made, until = len(job.steps()), time.monotonic() + AWAY_S
        system.wait(lambda: time.monotonic() > until, "the store has been away for long", AWAY_S + 5)
        system.wait(lambda: len(job.steps()) > made + 100, "training goes on without the store", AWAY_S)
    committed = system.committed_step
    system.wait(lambda: system.committed_step > max(made, committed), "what was trained meanwhile is committed")
    assert read_lease(system.store) is not None
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert (system.record.last_generation, system.record.lost_steps) == (1, 0), system.story()
    assert system.events(EventKind.INSTANCE_LOST) == []
    assert system.digest() == job.result
    assert job.steps() == list(range(1, STEPS + 1))
    system.wait_until_quiet()


@contextmanager
def standing_still(url: str) -> Iterator[None]:
    """The server takes connections, which the system does for it, and answers nothing."""
    port = url.rsplit(":", 1)[1]
    [server] = [process for process in psutil.process_iter() if f"-s3.port={port}" in _weed(process)]
    server.suspend()
    try:
        yield
    finally:
        server.resume()


def _weed(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if process.name() == "weed" else []
    except psutil.NoSuchProcess:
        return []
