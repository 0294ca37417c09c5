"""The command that fleets start ends with its agent: no thread that hangs keeps the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROCESS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from orchestrator.agent import main as agent
from orchestrator.cli.main import main
from orchestrator.errors import UsageError

def run_agent(store, **_):
    # as boto3's upload of a large file does: the interpreter waits for threads of a pool, daemons or not
    ThreadPoolExecutor(1).submit(threading.Event().wait)
    agent._log("its last word")
    {end}

agent.run_agent = run_agent
main()
"""


def command_of(tmp_path: Path, end: str) -> list[str]:
    """An agent of an instance that ends so."""
    arguments = ["--store", str(tmp_path / "store"), "agent", "--instance", "i", "--job", "digits", "--workers", "1"]
    arguments += ["--cores", "1", "--gpus", "", "--work-dir", str(tmp_path), "--idle-exit", "60s"]
    return [sys.executable, "-c", PROCESS.format(end=end), *arguments]


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("return 0", 0, "its last word"),
        ("return 7", 7, "its last word"),
        ("raise UsageError('no such place')", 2, "no such place"),
        ("raise RuntimeError('out of luck')", 1, "RuntimeError: out of luck"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
    ],
)
def test_the_process_ends_at_once_whatever_threads_hang(tmp_path: Path, end: str, code: int, said: str) -> None:
    command = command_of(tmp_path, end)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize("where", ["a full disk", "nobody reads"])
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("return 0", 0),
        ("raise UsageError('no such place')", 2),
        ("raise RuntimeError('out of luck')", 1),
    ],
)
def test_a_log_that_takes_nothing_changes_no_end(tmp_path: Path, where: str, end: str, code: int) -> None:
    """Its workers train on, and what they have written is still to be committed."""
    if where == "a full disk":
        log = os.open("/dev/full", os.O_WRONLY)
    else:
        reads, log = os.pipe()
        os.close(reads)
    try:
        command = command_of(tmp_path, f"print('goes on', flush=True); {end}")
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, timeout=100, check=False
        )
    finally:
        os.close(log)
    assert (done.returncode, done.stdout) == (code, "goes on\n")
