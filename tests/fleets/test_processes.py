"""Processes of an instance: never mistaken, and ended to the last one."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from orchestrator.fleets.processes import (
    MARKER,
    end_marked_processes,
    is_alive,
    marked_processes,
    read_identity,
    write_identity,
)
from orchestrator.store.owner import start_of, this_process
from tests.support.waiting import wait_until

CHILD_OF_A_CHILD = "import subprocess as s; print(s.Popen(['sleep', '60'], stdout=s.DEVNULL).pid, flush=True)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"


def start(marker: str, code: str) -> "subprocess.Popen[str]":
    environ = {**os.environ, MARKER: marker}
    return subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True)


def test_an_identity_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "process.json"
    assert read_identity(path) is None
    write_identity(path, this_process("me"))
    assert read_identity(path) == this_process("me")
    assert [entry.name for entry in tmp_path.iterdir()] == ["process.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": 1}', '{"pid": 1, "started": 2.0, "colour": "red"}'])
def test_half_an_identity_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "process.json").write_text(text)
    assert read_identity(tmp_path / "process.json") is None


def test_a_pid_that_came_to_name_another_process_is_not_mistaken() -> None:
    me = this_process("me")
    assert is_alive(me)
    assert not is_alive(replace(me, started=me.started - 1))
    assert not is_alive(replace(me, host="another machine:another boot:1"))


def test_a_process_that_has_ended_is_not_alive_though_nobody_has_waited_for_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    started = start_of(child.pid)
    assert started is not None
    identity = replace(this_process("child"), pid=child.pid, started=started)
    assert is_alive(identity)
    child.kill()
    wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, "it is a zombie")
    assert not is_alive(identity)
    child.communicate()


def test_ending_ends_orphans_too_and_nobody_else(tmp_path: Path) -> None:
    mine, other = str(tmp_path / "mine"), str(tmp_path / "mine-too")
    parent, bystander = start(mine, CHILD_OF_A_CHILD), start(other, "import time; time.sleep(60)")
    assert parent.stdout is not None
    orphan = int(parent.stdout.readline())
    parent.communicate(timeout=10)
    wait_until(lambda: marked_processes(other), "the bystander runs under its own name")
    assert [process.pid for process in marked_processes(mine)] == [orphan]
    end_marked_processes(mine, grace_s=0)
    assert marked_processes(mine) == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.communicate()


def test_after_the_grace_the_stubborn_are_killed(tmp_path: Path) -> None:
    stubborn = start(str(tmp_path), STUBBORN)
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == "on\n"
    began = time.monotonic()
    end_marked_processes(str(tmp_path), grace_s=0.3)
    assert time.monotonic() - began >= 0.3
    assert not psutil.pid_exists(stubborn.pid)
    stubborn.communicate()


def test_whoever_ends_them_is_spared_even_if_it_carries_the_marker(tmp_path: Path) -> None:
    code = (
        f"from orchestrator.fleets.processes import end_marked_processes as e; e({str(tmp_path)!r}, 0); print('lives')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, MARKER: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "lives\n"
