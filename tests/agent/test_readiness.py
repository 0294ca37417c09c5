"""Ready means that workers can start at once: until then the generation before trains on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.agent.launcher import TorchrunWorkers
from orchestrator.jobs.bucket import load_heartbeat
from orchestrator.jobs.instances import Heartbeat
from orchestrator.store.local import LocalStore
from tests.agent.agent_process import INSTANCE

BOUND_S = 60.0


def wait(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain: {what}"
        time.sleep(0.02)


def test_a_launcher_is_warm_once_it_has_imported(tmp_path: Path) -> None:
    workers = TorchrunWorkers(tmp_path / "launcher.log", os.environ)
    try:
        assert not workers.warm
        wait(lambda: workers.warm, "the launcher is warm")
        assert workers.pid is not None
    finally:
        workers.kill()


def test_a_launcher_that_died_is_not_waited_for(tmp_path: Path) -> None:
    workers = TorchrunWorkers(tmp_path / "launcher.log", os.environ)
    workers.kill()
    wait(workers.gone, "it is dead")
    assert workers.warm


def test_an_agent_is_ready_when_its_launcher_is_warm(tmp_path: Path) -> None:
    store, work_dir = LocalStore(tmp_path / "store"), tmp_path / "instance"
    command = [sys.executable, "-m", "tests.agent.agent_process", str(tmp_path / "store"), str(work_dir), "60"]
    seen: list[Heartbeat] = []

    def look() -> bool:
        beat = load_heartbeat(store, INSTANCE)
        if beat is not None and (not seen or seen[-1].state != beat.state):
            seen.append(beat)
        return beat is not None and beat.state == "ready"

    with open(tmp_path / "agent.log", "ab") as log:
        agent = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait(look, "the agent is ready")
        assert [beat.state for beat in seen] == ["booting", "ready"]
        assert (work_dir / "launcher-1.warm").exists()
    finally:
        agent.terminate()
        agent.wait(BOUND_S)
