"""What runs elastic as a service of systemd: each unit is sound and shut in."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
COMMAND = "/opt/elastic/bin/elastic"
MOST_EXPOSED = {
    "elastic-controller.service": 15,
    "elastic-pool.service": 22,  # the GPUs, the network, and code that is compiled
}
"""Of 100, as systemd-analyze counts; an unguarded service has 96."""


def service_of(unit: Path) -> configparser.SectionProxy:
    """What a unit says of its service."""
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(unit)
    return parsed["Service"]


@pytest.fixture(params=MOST_EXPOSED)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with a command that is there."""
    path: Path = tmp_path / request.param
    path.write_text((DEPLOY / request.param).read_text().replace(COMMAND, sys.executable))
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
    answer = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED[unit.name]}", str(unit))
    assert answer.returncode == 0, answer.stdout
