"""The controller as a service of systemd: its unit is sound, shut in, and the controller runs as it is shut in."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "elastic-controller.service"
COMMAND = "/opt/elastic/bin/elastic"
MOST_EXPOSED = 15
"""Of 100, as systemd-analyze counts; an unguarded service has 96."""
_SHUT_IN = """
import ctypes, os, sys
SET, GET, REFUSE_EXEC_GAIN = 65, 66, 1
libc = ctypes.CDLL(None)
if libc.prctl(SET, REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-m", "orchestrator.cli.main", "daemon", "--idle-exit", "1s"])
"""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a command that is there."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(COMMAND, sys.executable))
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.requires("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_it(unit: Path) -> None:
    answer = analyze("verify", str(unit))
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.requires("systemd-analyze")
def test_it_is_shut_in(unit: Path) -> None:
    answer = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(unit))
    assert answer.returncode == 0, answer.stdout


def test_it_runs_the_command_that_the_page_installs_and_comes_back_after_a_crash() -> None:
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(UNIT)
    service = parsed["Service"]
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
