"""A hung agent is ended, whatever its log is like."""

import subprocess
import sys
from typing import TextIO

import pytest

from orchestrator.agent.watchdog import HUNG

HANGS = """
import threading
from orchestrator.agent.main import _log
from orchestrator.agent.watchdog import watch

def hangs(_message):
    threading.Event().wait()

def fails(_message):
    raise MemoryError

watch(lambda: "a turn has taken 999 s", {marker}, {log})
threading.Event().wait()
"""


def hung(log: str, stderr: TextIO | int, marker: str | None) -> int:
    """The exit code of a process that the watchdog has to end."""
    command = [sys.executable, "-c", HANGS.format(marker=repr(marker), log=log)]
    return subprocess.run(command, stderr=stderr, timeout=100, check=False).returncode


@pytest.mark.parametrize("marker", [None, "of no process"])
@pytest.mark.parametrize("log", ["_log", "hangs", "fails"])
def test_whatever_the_log_does_the_process_is_ended(log: str, marker: str | None) -> None:
    assert hung(log, subprocess.DEVNULL, marker) == HUNG


def test_on_a_full_disk_the_process_is_ended() -> None:
    with open("/dev/full", "w") as full:
        assert hung("_log", full, None) == HUNG
