"""What conftest.py promises, shown on test sessions of its own: real pytest runs of a small file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.isolation import SESSION_VARIABLE

REPOSITORY = Path(__file__).parents[2]


def run_tests(directory: Path, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a file of tests under our conftest, in a Python and a session of its own."""
    file = directory / "test_small.py"
    file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-W", "ignore::ResourceWarning", "--rootdir", str(directory), "-c", os.devnull, str(file)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_test_finds_nothing_of_the_person(tmp_path: Path) -> None:
    looks = """
import os
from pathlib import Path
def test_it():
    assert Path.home() != Path("/home/person")
    assert os.environ["XDG_DATA_HOME"].startswith(str(Path.home().parent))
    assert os.environ["ELASTIC_STORE"].startswith(f"file://{Path.home().parent}")
    assert "AWS_PROFILE" not in os.environ
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "testing"
"""
    own = {"HOME": "/home/person", "AWS_PROFILE": "person", "AWS_SECRET_ACCESS_KEY": "x", "ELASTIC_STORE": "s3://own/x"}

    answer = run_tests(tmp_path, looks, **own)

    assert answer.returncode == 0, answer.stdout


def test_what_tests_start_can_be_interrupted_also_where_the_session_is_not(tmp_path: Path) -> None:
    looks = "import signal\ndef test_it():\n    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer = run_tests(tmp_path, looks)
    finally:
        signal.signal(signal.SIGINT, before)
    assert answer.returncode == 0, answer.stdout


def test_the_session_leaves_no_files(tmp_path: Path) -> None:
    writes = (
        "from pathlib import Path\ndef test_it():\n    print('HOME', Path.home())\n    (Path.home() / 'x').touch()\n"
    )

    answer = run_tests(tmp_path, writes)

    (home,) = [line.split()[1] for line in answer.stdout.splitlines() if line.startswith("HOME ")]
    assert answer.returncode == 0
    assert not Path(home).exists()


NEEDS = "import pytest\n@pytest.mark.requires('chromium')\ndef test_it():\n    pass\n"


def test_a_missing_engine_skips_its_tests_with_the_reason(tmp_path: Path) -> None:
    answer = run_tests(tmp_path, NEEDS, PATH=str(tmp_path), ELASTIC_TEST_ALL="0")

    assert answer.returncode == 0
    assert "needs chromium: there is no chromium or" in answer.stdout


def test_a_missing_engine_fails_its_tests_where_all_were_promised(tmp_path: Path) -> None:
    answer = run_tests(tmp_path, NEEDS, PATH=str(tmp_path), ELASTIC_TEST_ALL="1")

    assert answer.returncode == 1
    assert "chromium is missing (there is no chromium or" in answer.stdout


def test_an_engine_that_is_there_is_used(tmp_path: Path) -> None:
    for command in ("chromium", "chromedriver"):
        (tmp_path / command).touch(mode=0o755)

    assert "1 passed" in run_tests(tmp_path, NEEDS, PATH=str(tmp_path), ELASTIC_TEST_ALL="1").stdout


def test_a_misspelt_engine_is_refused_also_where_it_would_be_skipped(tmp_path: Path) -> None:
    answer = run_tests(tmp_path, NEEDS.replace("chromium", "crhomium"), ELASTIC_TEST_ALL="0")

    assert answer.returncode == pytest.ExitCode.USAGE_ERROR
    assert "requires ('crhomium',)" in answer.stderr


def test_a_process_that_a_test_forgot_is_killed_and_the_session_fails(tmp_path: Path) -> None:
    forgets = """
import os, subprocess, sys
SLEEP = "import time; time.sleep(600)  # MARK"
# A session of its own and a child, as an agent has: neither ends with the process that started it.
AGENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}"
def test_it():
    environ = {**os.environ, "ELASTIC_INSTANCE": "i-1"}
    subprocess.Popen([sys.executable, "-c", AGENT], start_new_session=True, env=environ)
"""
    answer = run_tests(tmp_path, forgets.replace("MARK", str(tmp_path)))  # others' tests sleep too, meanwhile

    assert answer.returncode == 1
    assert "processes outlived their tests and were killed" in answer.stdout
    assert "(instance i-1)" in answer.stdout
    assert [process for process in psutil.process_iter() if f"# {tmp_path}" in _command(process)] == []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_sessions_do_not_end_each_others_processes(tmp_path: Path) -> None:
    ours = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        assert os.environ[SESSION_VARIABLE]
        answer = run_tests(tmp_path, "def test_it():\n    pass\n")
        assert answer.returncode == 0
        assert ours.poll() is None
    finally:
        ours.kill()
        ours.wait()
