"""Whether a process is dead is either known for certain or not said."""

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from orchestrator.store.lease import Lease, is_certainly_dead
from orchestrator.store.memory import MemoryStore
from orchestrator.store.owner import Owner, owner_alive, start_of, this_host, this_process

HERE = "machine:boot:1"
OWNER = Owner(HERE, pid=42, started=100.0, label="a test")


def test_this_process_is_alive() -> None:
    me = this_process("a test")
    assert me.pid == os.getpid() and me.label == "a test" and me.host == this_host()
    assert owner_alive(me) is True
    assert not is_certainly_dead(me)
    assert this_process("a test") == me


def test_the_same_pid_with_another_start_is_another_process() -> None:
    me = this_process("a test")
    assert owner_alive(replace(me, started=me.started - 1.0)) is False


def test_a_killed_process_is_dead_even_before_its_parent_notices() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = start_of(process.pid)
        assert started is not None
        owner = replace(this_process("child"), pid=process.pid, started=started)
        assert owner_alive(owner) is True
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is a zombie
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        assert owner_alive(owner) is False
    finally:
        process.kill()
        process.communicate()
    assert owner_alive(owner) is False


def test_the_lease_of_a_killed_process_is_taken_over_at_once() -> None:
    """With the real look at real processes, and no wait."""
    program = (
        "import sys; from orchestrator.store.owner import this_process as p; o = p('x');"
        "print(o.pid, o.started, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        pid, started = process.stdout.readline().split()
        store, host = MemoryStore(), this_host()
        assert Lease(store, Owner(host, int(pid), float(started), "the other")).try_acquire()
        mine = Lease(store, this_process("me"))
        assert not mine.try_acquire(), "it lives"
        process.kill()
        process.wait()
        assert mine.try_acquire()
        assert mine.epoch == 2
    finally:
        process.kill()
        process.communicate()


def test_whether_a_hidden_process_lives_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `hidepid`, /proc refuses what is of another user's process, or has nothing of it."""

    def refused(_pid: int) -> float | None:
        raise PermissionError

    assert owner_alive(OWNER, HERE, refused) is None

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    hidden = replace(this_process("another's"), pid=dead.pid)
    assert owner_alive(hidden) is False
    monkeypatch.setattr(os, "kill", refuse)
    assert owner_alive(hidden) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the name that a process gives itself is Linux's")
def test_a_name_that_ends_within_a_character_hides_no_start() -> None:
    """The system cuts names after 15 bytes."""
    rename = "import ctypes; ctypes.CDLL(None).prctl(15, 'x\u7f16\u7801\u7f16\u7801\u7f16'.encode(), 0, 0, 0)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{rename}; print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"\n"
        assert start_of(process.pid) is not None
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("owners_host", "here", "alive"),
    [
        ("machine:boot:1", "machine:boot:1", True),
        ("machine:boot:1", "machine:boot:2", None),  # another container
        ("machine:boot:1", "other:boot:1", True),  # one kernel and namespace, whatever the machine is called
        ("machine:boot:1", "machine:later:1", False),  # this machine has been started again
        ("machine:boot:1", "other:later:1", None),  # another machine
        (":boot:1", ":later:1", None),  # machines without an id are not the same machine
        ("machine::", "machine::", True),  # a system that does not number its boots
        ("machine::", "other::", None),
        ("machine:boot:1", "machine::", None),
        ("nonsense", "machine:boot:1", None),
    ],
)
def test_what_is_known_of_a_process(owners_host: str, here: str, alive: bool | None) -> None:
    owner = replace(OWNER, host=owners_host)
    assert owner_alive(owner, here, lambda pid: 100.0) is alive
    if alive is True:
        assert owner_alive(owner, here, lambda pid: None) is False
        assert owner_alive(owner, here, lambda pid: 103.0) is False
