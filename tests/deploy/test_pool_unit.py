"""A machine of the pool as a service of systemd: its unit is sound and shut in, and outlived by what trains."""

import configparser
import sys
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.fleets.pool.host import DRAIN_WITHIN_S
from tests.deploy.test_controller_unit import COMMAND, analyze

UNIT = Path(__file__).parents[2] / "deploy" / "elastic-pool.service"
MOST_EXPOSED = 22
"""Of 100, as systemd-analyze counts: the GPUs, the network, and code that is compiled."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a command that is there."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(COMMAND, sys.executable))
    return path


@pytest.mark.requires("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_it(unit: Path) -> None:
    answer = analyze("verify", str(unit))
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.requires("systemd-analyze")
def test_it_is_shut_in(unit: Path) -> None:
    answer = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(unit))
    assert answer.returncode == 0, answer.stdout


def test_agents_are_let_end_by_their_host_and_outlive_one_that_crashes() -> None:
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(UNIT)
    service = parsed["Service"]
    assert service["ExecStart"] == f"{COMMAND} agent --join ${{ELASTIC_STORE}} $ELASTIC_POOL_OPTIONS"
    assert service["KillMode"] == "process"
    assert float(service["TimeoutStopSec"].removesuffix("s")) > DRAIN_WITHIN_S
    assert (service["User"], service["Restart"]) == ("elastic", "on-failure")
    assert service["RestartPreventExitStatus"] == str(UsageError.exit_code), "which no other try mends"
    assert not {"PrivateTmp", "ProtectProc", "ProcSubset", "PrivatePIDs", "DynamicUser"} & set(service)
    page = (UNIT.parent / "README.md").read_text()
    assert "useradd --system" in page
    assert service["EnvironmentFile"] in page
