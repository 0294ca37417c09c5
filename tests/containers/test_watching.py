"""Whether a rank heeds a signal: read from a real process."""

import signal
import subprocess
from pathlib import Path

import pytest

from orchestrator.agent.containers.watching import _heeds
from tests.support.waiting import wait_until


@pytest.mark.parametrize("name", ["train", "обучение"], ids=["plain", "cut within a character"])
@pytest.mark.parametrize(("begins", "heeds"), [("trap : TERM", True), ("trap '' TERM", True), (":", False)])
def test_whoever_it_is_by_name(tmp_path: Path, name: str, begins: str, heeds: bool) -> None:
    """The kernel keeps 15 bytes of a name."""
    program, ready = tmp_path / f"{name}.sh", tmp_path / "ready"
    program.write_text(f"#!/bin/sh\n{begins}\n: > {ready}\nread x\n")
    program.chmod(0o755)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        wait_until(ready.exists, "it has begun", 20)
        assert _heeds(process.pid, signal.SIGTERM) is heeds


def test_of_one_that_is_gone_it_cannot_be_told() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert _heeds(process.pid, signal.SIGTERM)
    assert _heeds(None, signal.SIGTERM)
