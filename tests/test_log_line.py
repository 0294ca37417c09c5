"""A log line that cannot be written costs the line alone: the process goes on."""

import subprocess
import sys

import pytest

LOGS = """
import os, sys
from orchestrator.log_line import write_line
{before}
for _ in range(3):
    write_line("a line", sys.stderr)
print("goes on", flush=True)
os._exit(7)
"""
READER_GONE = "reads, writes = os.pipe(); os.dup2(writes, 2); os.close(writes); os.close(reads)"


def test_a_line_is_written_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS.format(before="")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "a line\n" * 3)


@pytest.mark.parametrize(
    "before",
    ["os.dup2(os.open('/dev/full', os.O_WRONLY), 2)", READER_GONE, "os.close(2)", "sys.stderr.close()"],
    ids=["the disk is full", "nobody reads", "there is no such file", "the stream is closed"],
)
def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(before: str) -> None:
    command = [sys.executable, "-c", LOGS.format(before=before)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (7, "goes on\n"), done.stderr
