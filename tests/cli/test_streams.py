"""Streams that nobody reads, that cannot be written, or that are not there."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrator.cli.checks import check_controller
from orchestrator.cli.prose import complain, say, suggest, warn
from orchestrator.jobs.requests import read_requests
from orchestrator.store.protocol import Store
from tests.cli.conftest import ElasticProcess, command_line
from tests.cli.stored_jobs import log, put_pending, put_training
from tests.support.waiting import BOUND_S

NOBODY_READS, FULL_DISK = "nobody reads it", "the disk is full"


@contextmanager
def unwritable(how: str) -> Iterator[int]:
    """A descriptor that nothing can be written to."""
    if how == NOBODY_READS:
        reads, writes = os.pipe()
        os.close(reads)
    else:
        writes = os.open("/dev/full", os.O_WRONLY)
    try:
        yield writes
    finally:
        os.close(writes)


def run_in_shell(redirections: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`elastic ARGUMENTS REDIRECTIONS`, with Python's buffers as they are when nobody has set anything."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    shell = ["sh", "-c", f'exec "$@" {redirections}', "sh", *command_line(*arguments)]
    return subprocess.run(shell, capture_output=True, text=True, timeout=BOUND_S, check=False, env=environ)


# --- stderr -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [NOBODY_READS, FULL_DISK])
def test_a_request_comes_with_a_controller_though_nothing_can_be_said(
    elastic_process: ElasticProcess, store: Store, how: str
) -> None:
    put_pending(store, "digits")
    with unwritable(how) as stderr:
        outcome = subprocess.run(
            command_line("cancel", "-y", "digits"), stdout=subprocess.PIPE, stderr=stderr, timeout=BOUND_S, check=False
        )
    assert (outcome.returncode, outcome.stdout) == (0, b"")
    assert elastic_process("wait", "digits", "--timeout", "1m").returncode == 3
    leader = re.search(r"pid (\d+)", check_controller(store).seen)
    assert leader is not None
    daemon = psutil.Process(int(leader[1]))
    daemon.terminate()
    daemon.wait(timeout=BOUND_S)


@pytest.mark.parametrize("redirections", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize(("command", "code"), [("cancel -y digits --no-daemon", 0), ("show absent", 2)])
def test_the_exit_code_is_the_same_though_nothing_can_be_said(
    store: Store, redirections: str, command: str, code: int
) -> None:
    put_training(store)
    outcome = run_in_shell(redirections, *command.split())
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (code, "", "")
    assert [request.kind for request in read_requests(store, "digits")] == (["cancel"] if code == 0 else [])


def test_following_ends_once_nobody_reads_it(store: Store) -> None:
    put_training(store)
    with unwritable(NOBODY_READS) as stderr:
        follower = subprocess.run(command_line("follow", "digits"), stderr=stderr, timeout=BOUND_S, check=False)
    assert follower.returncode == 141


def test_remarks_on_a_stream_that_is_closed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.TextIOWrapper(io.BytesIO())
    stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    say("a remark")
    warn("a warning")
    complain("a complaint")
    suggest(("elastic ps", "how they stand"))


# --- stdout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["version", "--help", "schema", "show digits -o json", "logs digits"])
def test_a_stdout_that_cannot_be_written_is_one_sentence(store: Store, command: str) -> None:
    put_training(store)
    log(store, "digits", 1, 0, b"a line\n")
    outcome = run_in_shell(">/dev/full", *command.split())
    assert outcome.stderr == "error: cannot write to stdout: No space left on device\n"
    assert outcome.returncode == 1


# --- streams that are not there ---------------------------------------------------------------------------------------


def test_a_closed_stdout_is_as_good_as_nowhere(store: Store) -> None:
    put_training(store)
    for command in ("version", "ps"):
        outcome = run_in_shell(">&-", command)
        assert (outcome.returncode, outcome.stderr) == (0, "")


@pytest.mark.parametrize(
    ("redirections", "words"),
    [
        ("<&-", "standard input: is empty"),
        ("0>somewhere", "standard input cannot be read: Bad file descriptor"),
    ],
)
def test_a_job_on_a_stdin_that_gives_none_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redirections: str, words: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.chdir(tmp_path)
    outcome = run_in_shell(redirections, "submit", "-", "--no-daemon")
    assert outcome.returncode == 2
    (said,) = outcome.stderr.splitlines()
    assert words in said
