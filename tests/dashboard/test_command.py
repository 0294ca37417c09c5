"""`elastic dashboard` as a process."""

import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrator.dashboard.serving import listen
from orchestrator.errors import UsageError
from tests.cli.conftest import command_line
from tests.support.waiting import wait_until

BOUND_S = 60.0


@contextmanager
def running(*arguments: str, store: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command_line("dashboard", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "ELASTIC_STORE": store.as_uri(), "PYTHONPATH": os.getcwd()},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def address_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def get(url: str) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=BOUND_S) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_prints_where_it_is_answers_and_ends_when_asked(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with running("--port", "0", store=tmp_path / "store") as process:
        address = address_of(process)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        assert "<title>elastic</title>" in get(address)
        wait_until(lambda: '"jobs": []' in get(f"{address}data/overview"), "the store is read")
        listening = [each.laddr for each in psutil.Process(process.pid).net_connections() if each.status == "LISTEN"]
        assert [at.ip for at in listening] == ["127.0.0.1"]

        process.send_signal(number)
        out, err = process.communicate(timeout=BOUND_S)

    assert (process.returncode, out) == (code, "")
    assert err.splitlines() == [f"The jobs in {(tmp_path / 'store').as_uri()} are shown there. Ctrl-C ends it."]


def test_an_open_page_does_not_keep_it(tmp_path: Path) -> None:
    with running("--port", "0", store=tmp_path / "store") as process:
        port = int(address_of(process).rsplit(":", 1)[1].strip("/"))
        with socket.create_connection(("127.0.0.1", port)) as kept:
            kept.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)
            assert kept.recv(15) == b"HTTP/1.1 200 OK"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=BOUND_S)

    assert process.returncode == 130


def test_a_port_that_is_taken_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running("--port", str(port), store=tmp_path / "store") as process:
            out, err = process.communicate(timeout=BOUND_S)

    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert f"port {port} cannot be listened on" in err
    assert "--port 0" in err


def test_a_store_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, and no directory")
    with running("--port", "0", store=tmp_path / "store") as process:
        out, err = process.communicate(timeout=BOUND_S)

    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_outside_of_a_container_nothing_listens_but_on_loopback(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this is none"):
        listen(0, in_container=True, root=tmp_path)
    with listen(0, in_container=False, root=tmp_path) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_in_a_container_it_can_be_reached_if_that_is_asked_for(tmp_path: Path, mark: str) -> None:
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()

    with listen(0, in_container=True, root=tmp_path) as listening:
        assert listening.getsockname()[0] == "0.0.0.0"
    with listen(0, in_container=False, root=tmp_path) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_a_request_under_way_does_not_keep_it(tmp_path: Path) -> None:
    """A store that hangs holds no exit: here a named pipe that nobody writes to stands for an object of it."""
    lease = tmp_path / "store" / "control" / "lease.json"
    lease.parent.mkdir(parents=True)
    os.mkfifo(lease)
    with running("--port", "0", store=tmp_path / "store") as process:
        address = address_of(process)
        assert '"page": null' in get(f"{address}data/overview")
        wait_until(lambda: process.poll() is None, "it lives")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=BOUND_S)

    assert process.returncode == 130
