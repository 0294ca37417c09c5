"""The engine of the tests themselves: it runs containers, outlives a restart with them, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support import docker_engine as support
from tests.support.docker_engine import Engine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.requires("docker")


@contextmanager
def engine_of_its_own() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A second engine beside that of the session, and where it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.docker_engine"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(60)


def own(engine: Engine) -> Engine:
    if engine.process is None:
        pytest.skip("the Docker engine here is not the tests' own")
    return engine


def processes_of(directory: Path) -> list[str]:
    """Command lines that name this directory."""
    lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(directory) in line]


def test_a_container_runs_python(docker_engine: Engine) -> None:
    said = docker_engine.docker("run", "--rm", docker_engine.base, "python3", "-c", "print(6 * 7)")

    assert said == "42"
    assert os.environ["DOCKER_HOST"] == docker_engine.host


def test_containers_outlive_a_restart_of_the_engine(docker_engine: Engine) -> None:
    name = docker_engine.docker("run", "--detach", docker_engine.base, "sleep", "300")
    try:
        pid = docker_engine.docker("inspect", "--format", "{{.State.Pid}}", name)

        docker_engine.restart()

        state = docker_engine.docker("inspect", "--format", "{{.State.Running}} {{.State.Pid}}", name)
        assert state == f"true {pid}"
    finally:
        docker_engine.docker("rm", "--force", name)


def test_an_engine_that_is_stopped_answers_nobody_until_it_is_started(docker_engine: Engine) -> None:
    docker_engine.stop()
    try:
        asked = ["docker", "--host", docker_engine.host, "version"]
        assert subprocess.run(asked, capture_output=True, check=False).returncode != 0
    finally:
        docker_engine.start()

    assert docker_engine.docker("version", "--format", "{{.Server.Os}}") == "linux"


def test_nobody_reaches_it_but_by_its_socket(session_engine: Engine) -> None:
    assert own(session_engine).process is not None
    for process in psutil.Process(session_engine.process.pid).children(recursive=True):  # type: ignore[union-attr]
        listening = [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
        assert listening == [], process.cmdline()


def test_when_its_owner_is_killed_it_ends_with_all_its_containers(session_engine: Engine) -> None:
    own(session_engine)
    with engine_of_its_own() as (process, host):
        second = Engine(host, session_engine.base)
        directory = Path(host.removeprefix("unix://")).parent
        tar = support.base_tar()
        second.docker("import", tar, second.base)
        second.docker("run", "--detach", second.base, "sleep", "301")
        assert processes_of(directory)

        assert process.stdin is not None
        process.stdin.close()  # as the system does for a process that is killed
        wait_until(lambda: process.poll() is not None, "the engine's process ends", bound_s=150)

    assert processes_of(directory) == []
    assert not directory.exists()
    assert str(directory) not in Path("/proc/self/mounts").read_text()
    assert not [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", "301"]]


def test_sigterm_alone_does_not_part_it_from_its_containers(session_engine: Engine) -> None:
    process = own(session_engine).process
    assert process is not None
    process.send_signal(signal.SIGTERM)

    assert session_engine.docker("version", "--format", "{{.Server.Os}}") == "linux"
