"""The command as a process among others: terminals, pipes, signals, faults."""

import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from orchestrator.cli.checks import check_controller
from orchestrator.cli.live_view import ROOM_FOR_CTRL_C
from orchestrator.fleets.pool.listing import read_pool
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.requests import read_requests
from orchestrator.store.lease import read_lease
from orchestrator.store.open import open_store
from orchestrator.store.protocol import Store
from tests.cli.conftest import ElasticProcess, command_line
from tests.cli.stored_jobs import JOB_YAML, finish, log, put_training, word_after_time
from tests.cli.terminal import BOUND_S, Terminal, wait_until

# --- terminals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 120])
def test_the_live_view_on_a_terminal(store: Store, columns: int) -> None:
    put_training(store)
    terminal = Terminal("follow", "digits", columns=columns)
    terminal.wait_for("Ctrl-C detaches")
    picture: list[str] = []

    def is_whole() -> bool:  # at each look it is taken away and drawn anew
        picture[:] = [line for line in terminal.screen() if line.startswith(("╭", "│", "╰"))]
        return bool(picture) and picture[0].startswith("╭") and picture[-1].endswith("╯")

    wait_until(is_whole, "the whole picture")
    assert {len(line) for line in picture} == {columns - ROOM_FOR_CTRL_C}
    assert "digits  ● running · training" in picture[0]
    assert any("412/700" in line for line in picture)
    finish(store, "digits", JobPhase.SUCCEEDED, "finished at step 700")
    assert terminal.finish() == 0
    screen = [line for line in terminal.screen() if line]
    assert [word_after_time(line) for line in screen[:4]] == ["submitted", "starting", "training", "succeeded"]
    assert screen[4] == "✔ digits succeeded"
    assert screen[-2].split("  ")[1] == "elastic fetch digits"
    assert "\x1b[?25h" in terminal.written  # the cursor is back


def test_ctrl_c_detaches_and_names_the_next_command(store: Store) -> None:
    put_training(store)
    terminal = Terminal("follow", "digits", columns=80)
    terminal.wait_for("Ctrl-C detaches")
    terminal.type("\x03")
    assert terminal.finish() == 130
    screen = [line for line in terminal.screen() if line]
    assert [word_after_time(line) for line in screen[:3]] == ["submitted", "starting", "training"]
    assert screen[3:] == [
        "Detached. digits goes on without you.",
        "  elastic follow digits   watch it again",
        "  elastic cancel digits   end it",
    ]


def test_being_ended_brings_the_cursor_back(store: Store) -> None:
    put_training(store)
    terminal = Terminal("follow", "digits")
    terminal.wait_for("Ctrl-C detaches")
    terminal.process.terminate()
    assert terminal.finish() == 128 + signal.SIGTERM
    assert terminal.written.rindex("\x1b[?25h") > terminal.written.rindex("\x1b[?25l")


@pytest.mark.parametrize(("answer", "code", "requests"), [("n", 1, 0), ("y", 0, 1)])
def test_cancel_asks_on_a_terminal(store: Store, answer: str, code: int, requests: int) -> None:
    put_training(store)
    terminal = Terminal("cancel", "digits", "--no-daemon")
    terminal.wait_for("[y/N]")
    terminal.type(f"{answer}\n")
    assert terminal.finish() == code
    assert len(list(read_requests(store, "digits"))) == requests


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_ps_on_a_narrow_terminal_leaves_columns_out_and_cuts_no_name(store: Store, columns: int) -> None:
    name = "cifar-supervised-baseline-seed-3"
    put_training(store, name)
    terminal = Terminal("ps", columns=columns)
    assert terminal.finish() == 0
    header, line = terminal.screen()[:2]
    assert line.startswith(f"{name}  running · training")
    assert max(len(header), len(line)) <= columns
    assert ("ETA" in header) is (columns == 120)


def test_no_color_is_respected_on_a_terminal(store: Store) -> None:
    put_training(store)
    coloured = Terminal("ps")
    plain = Terminal("ps", env={"NO_COLOR": "1"})
    assert (coloured.finish(), plain.finish()) == (0, 0)
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    assert colour.search(coloured.written)
    assert not colour.search(plain.written)


# --- pipes ------------------------------------------------------------------------------------------------------------


def test_without_a_terminal_there_is_no_colour_no_frame_and_no_prompt(
    elastic_process: ElasticProcess, store: Store
) -> None:
    put_training(store)
    for command in (["ps"], ["show", "digits"], ["events", "digits"], ["cancel", "digits", "--no-daemon"]):
        outcome = elastic_process(*command)
        assert outcome.returncode == 0
        assert "\x1b" not in outcome.stdout + outcome.stderr
    assert [r.kind for r in read_requests(store, "digits")] == ["cancel"]


@pytest.mark.parametrize("command", ["logs digits", "events digits -o json", "schema"])
def test_a_reader_that_leaves_is_no_error(store: Store, command: str) -> None:
    put_training(store)
    for chunk in range(40):
        log(store, "digits", 1, chunk, b"a line of some length that fills the pipe\n" * 2000)
    writer = subprocess.Popen(command_line(*command.split()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stderr is not None
    if command.startswith("logs"):
        writer.stdout.readline()
    writer.stdout.close()
    assert writer.stderr.read() == ""
    assert writer.wait(timeout=BOUND_S) in (0, 141)  # a short answer may have fitted into the pipe


def test_ctrl_c_without_a_terminal_also_detaches(store: Store) -> None:
    put_training(store)
    process = subprocess.Popen(
        command_line("follow", "digits"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "step 412/700" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=BOUND_S)
    assert (process.returncode, out) == (130, "")
    assert "elastic follow digits" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["wait digits", "logs digits -f", "events digits -f"])
def test_ctrl_c_ends_what_waits_quietly(store: Store, command: str) -> None:
    put_training(store)
    log(store, "digits", 1, 0, b"a line\n")
    process = subprocess.Popen(
        command_line(*command.split()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Typer is up, and the command waits, once it sleeps in its loop.
    wait_until(lambda: _waits(process.pid), "the command waits")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=BOUND_S)
    assert (process.returncode, err) == (130, "")


def _waits(pid: int) -> bool:
    """Whether it sleeps by the kernel's word: a process that is only kept from the processor does not."""
    return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()


# --- controllers ------------------------------------------------------------------------------------------------------


def test_submit_starts_a_controller_once_and_says_so(
    elastic_process: ElasticProcess, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(JOB_YAML)
    # One is cancelled and the other paused before there is a controller, so that it has nothing to train.
    for name in ("one", "two"):
        assert elastic_process("submit", "job.yaml", "--name", name, "--no-daemon").returncode == 0
    assert elastic_process("pause", "two", "--no-daemon").returncode == 0
    first = elastic_process("cancel", "one")
    started = re.search(r"Started a controller in the background \(pid (\d+)\)", first.stderr)
    assert started is not None, first.stderr
    daemon = psutil.Process(int(started[1]))
    log_path = Path(first.stderr.split("Its log: ")[1].splitlines()[0])
    try:
        ended = elastic_process("wait", "one", "--timeout", "2m")
        assert ended.returncode == 3
        assert "cancelled" in ended.stdout
        second = elastic_process("cancel", "two").stderr
        assert "Asked to cancel two." in second
        assert "Started" not in second
        assert "leading, epoch 1" in log_path.read_text()
        assert f"pid {daemon.pid}" in check_controller(store).seen
    finally:
        daemon.terminate()
        daemon.wait(timeout=BOUND_S)


def test_where_no_controller_can_be_started_nothing_is_submitted_or_asked(
    elastic_process: ElasticProcess, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(JOB_YAML)
    put_training(store, "runs")
    nowhere = {"XDG_STATE_HOME": "/dev/null"}
    for command in (["submit", "job.yaml"], ["cancel", "runs"]):
        outcome = elastic_process(*command, env=nowhere)
        assert (outcome.returncode, outcome.stdout) == (1, "")
        (said,) = outcome.stderr.splitlines()
        assert "cannot log to /dev/null/elastic" in said
        assert "XDG_STATE_HOME" in said
        assert "fault" not in said
    assert list(store.prefixes("jobs/")) == ["runs"]
    assert list(read_requests(store, "runs")) == []
    assert elastic_process("submit", "job.yaml", "--no-daemon", env=nowhere).returncode == 0


def test_a_daemon_in_the_foreground_ends_when_idle(elastic_process: ElasticProcess) -> None:
    outcome = elastic_process("daemon", "--idle-exit", "500ms")
    assert (outcome.returncode, outcome.stdout) == (0, "")
    assert "leading, epoch 1" in outcome.stderr


def test_a_daemon_whose_log_lies_on_a_full_disk_goes_on(store_url: str) -> None:
    """It would end in the middle of its duty, and keep the lease from the next."""
    command = command_line("daemon", "--idle-exit", "500ms")
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=full, timeout=60, check=False)
    assert done.returncode == 0
    lease = read_lease(open_store(store_url, {}))
    assert lease is not None and lease.epoch == 1, "it has led"


def test_a_machine_of_the_pool_whose_log_lies_on_a_full_disk_goes_on(store_url: str, tmp_path: Path) -> None:
    command = command_line("agent", "--join", store_url, "--name", "mine", "--cores", "1", "--gpus", "")
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}

    def state() -> str | None:
        return next((each.report.state for each in read_pool(open_store(store_url, {}), datetime.now(UTC))), None)

    with open("/dev/full", "w") as full:
        host = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=full, env=environ)
    try:
        wait_until(lambda: state() == "ready" or host.poll() is not None, "it has joined")
        host.terminate()
        assert host.wait(60) == 0
        assert state() == "gone", "it has left"
    finally:
        host.kill()
        host.wait()


# --- faults and help --------------------------------------------------------------------------------------------------


def test_a_fault_of_elastic_is_owned_up_to_and_kept(elastic_process: ElasticProcess, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import orchestrator.store.open as o\n"
        "def broken(*_): raise ZeroDivisionError('a planted fault')\n"
        "o.open_store = broken\n"
    )
    env = {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}", "XDG_STATE_HOME": str(tmp_path)}
    outcome = elastic_process("ps", env=env)
    assert outcome.returncode == 1
    assert len(outcome.stderr.splitlines()) == 1
    assert "this is a fault of elastic" in outcome.stderr
    assert "a planted fault" in outcome.stderr
    (kept,) = tmp_path.rglob("fault-*.log")
    assert str(kept) in outcome.stderr
    assert "Traceback" in kept.read_text()
    assert "Traceback" in elastic_process("ps", env={**env, "ELASTIC_DEBUG": "1"}).stderr


def test_the_shell_completes_commands_and_job_names(elastic_process: ElasticProcess, store: Store) -> None:
    put_training(store, "digits-one")
    put_training(store, "other")

    def complete(words: str) -> list[str]:
        env = {"_ELASTIC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return elastic_process(env=env).stdout.split()

    assert complete("elastic show dig") == ["digits-one"]
    assert set(complete("elastic cancel ")) == {"digits-one", "other"}
    assert "submit" in complete("elastic sub")
    assert complete("elastic --store gopher://x show ") == []


def test_help_and_ps_are_quick(
    elastic_process: ElasticProcess, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    put_training(store)
    imports = [sys.executable, "-X", "importtime", "-m", "orchestrator.cli.main"]
    for arguments in (["--help"], ["ps"]):
        started_s = time.monotonic()
        assert elastic_process(*arguments).returncode == 0
        took_s = time.monotonic() - started_s
        with capsys.disabled():
            print(f"\n  elastic {' '.join(arguments)}: {took_s:.2f} s", end="")
        loaded = subprocess.run([*imports, *arguments], capture_output=True, text=True, check=True).stderr
        for heavy in (
            "torch",
            "boto3",
            "numpy",
            "sklearn",
            "ruamel.yaml",
            "orchestrator.spec.models",
            "trainer.config",
        ):
            assert not re.search(rf"\| +{re.escape(heavy)}$", loaded, re.MULTILINE), f"{arguments} imports {heavy}"
