"""Ready means that workers can start at once: until then the generation before trains on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.agent.launcher import TorchrunWorkers
from orchestrator.jobs.bucket import load_heartbeat
from orchestrator.store.local import LocalStore
from tests.agent.agent_process import INSTANCE

BOUND_S = 120.0


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


SLOW_TORCH = """
import os, sys, time
from types import ModuleType
from unittest.mock import MagicMock

while not os.path.exists(os.environ["TORCH_GATE"]):
    time.sleep(0.02)
__path__ = []
for name in ("distributed", "distributed.elastic", "distributed.elastic.multiprocessing",
             "distributed.elastic.multiprocessing.errors", "distributed.launcher", "distributed.launcher.api"):
    module = sys.modules[f"torch.{name}"] = ModuleType(f"torch.{name}")
    module.__path__ = []
    module.__getattr__ = MagicMock()
"""
"""A torch whose import takes until there is a file: as the real one takes seconds, or a minute on a busy machine."""


def test_an_agent_is_ready_when_its_launcher_is_warm_and_not_before(tmp_path: Path) -> None:
    store, work_dir, gate = LocalStore(tmp_path / "store"), tmp_path / "instance", tmp_path / "gate"
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "torch.py").write_text(SLOW_TORCH)
    command = [sys.executable, "-m", "tests.agent.agent_process", str(tmp_path / "store"), str(work_dir), "600"]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "slow"), "TORCH_GATE": str(gate)}

    def says(state: str, *, after: int = 0) -> bool:
        beat = load_heartbeat(store, INSTANCE)
        if beat is not None and not gate.exists():
            assert beat.state == "booting"
        return beat is not None and beat.state == state and beat.count > after

    with open(tmp_path / "agent.log", "ab") as log:
        agent = subprocess.Popen(command, stdout=log, stderr=log, env=environ)
    try:
        wait(lambda: says("booting", after=3), "the agent says several times that it is on its way")
        assert not (work_dir / "launcher-1.warm").exists()
        gate.touch()
        wait(lambda: says("ready"), "the agent is ready")
        assert (work_dir / "launcher-1.warm").exists()
    finally:
        agent.terminate()
        agent.wait(BOUND_S)
