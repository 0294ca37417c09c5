"""The controller as a service of systemd: what its unit says, and that the controller runs as it is shut in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.test_units import COMMAND, DEPLOY, service_of

UNIT = DEPLOY / "elastic-controller.service"
_SHUT_IN = """
import ctypes, os, sys
SET, GET, REFUSE_EXEC_GAIN = 65, 66, 1
libc = ctypes.CDLL(None)
if libc.prctl(SET, REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-m", "orchestrator.cli.main", "daemon", "--idle-exit", "1s"])
"""


def test_it_runs_the_command_that_the_page_installs_and_comes_back_after_a_crash() -> None:
    service = service_of(UNIT)
    assert service["ExecStart"] == f"{COMMAND} daemon"
    assert service["Restart"] == "always"
    assert service["DynamicUser"] == "yes"
    assert f"{COMMAND.removesuffix('/elastic')}" in (UNIT.parent / "README.md").read_text()


def test_no_rival_is_hidden_from_it() -> None:
    """One that it cannot see it would take for dead, and for certain: see `orchestrator.store.owner`."""
    settings = [line.split("=")[0] for line in UNIT.read_text().splitlines() if not line.startswith("#")]
    assert not {"ProtectProc", "ProcSubset", "PrivatePIDs"} & set(settings)


def test_a_controller_runs_where_no_memory_may_become_code(tmp_path: Path) -> None:
    """MemoryDenyWriteExecute=, by the kernel's own means (Linux 6.3)."""
    environ = {**os.environ, "ELASTIC_STORE": (tmp_path / "store").as_uri()}
    answer = subprocess.run(
        [sys.executable, "-c", _SHUT_IN], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    if answer.returncode == 77:
        pytest.skip("this kernel cannot refuse it")
    assert answer.returncode == 0, answer.stderr
    assert "leading, epoch 1" in answer.stderr
