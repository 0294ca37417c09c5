"""Which process leads, said so exactly that another process can tell whether it is dead."""

import hashlib
import os
import platform
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_START_TOLERANCE_S = 0.02  # two ticks of the kernel's clock
_START_TOLERANCE_WALL_S = 2.0


@dataclass(frozen=True)
class Owner:
    """A process, anywhere in the world.

    `host` is machine, boot and process-id namespace, joined by `:`; process ids mean something only where all three are
    the same. `started` is the process's start by the system's own account: on Linux in seconds after boot, which no
    change of the clock moves. `label` is for people.
    """

    host: str
    pid: int
    started: float
    label: str


def this_process(label: str) -> Owner:
    """The running process as an owner."""
    pid = os.getpid()
    started = start_of(pid)
    return Owner(this_host(), pid, 0.0 if started is None else started, label)


def this_host() -> str:
    """Machine, boot and process-id namespace; a part that is not known is empty."""
    return _host_of(os.getpid())


@cache
def _host_of(_pid: int) -> str:
    """Looked up once in a process: who is forked may be in another namespace than its parent."""
    return f"{_machine()}:{_read('/proc/sys/kernel/random/boot_id')}:{_namespace()}"


def start_of(pid: int) -> float | None:
    """When a living process started, for comparison with an `Owner.started` of this boot; None when it is dead.

    A zombie is dead: it only waits for its parent to notice. Raises PermissionError for one that the system hides from
    this user.
    """
    if sys.platform == "linux":
        return _start_in_proc(pid)
    try:
        process = psutil.Process(pid)
        return None if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _start_in_proc(pid: int) -> float | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")  # a name may end within a character
    except (FileNotFoundError, ProcessLookupError):
        with suppress(ProcessLookupError):
            os.kill(pid, 0)  # to /proc with `hidepid`, what others run does not exist; this is refused then
        return None
    # The second field, the name, may hold spaces and brackets: count from its end. The third is the state, the 22nd
    # the start.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZXx" else int(fields[18]) / os.sysconf("SC_CLK_TCK")


def owner_alive(
    owner: Owner, here: str | None = None, started: Callable[[int], float | None] = start_of
) -> bool | None:
    """Whether a process still runs; None where nobody can tell, as for one on another machine, or a hidden one.

    False is certain: on this host such a process is gone, or this machine was started again since. `here` and `started`
    stand for this host and its processes.
    """
    machine, boot, namespace = _parts(owner.host)
    my_machine, my_boot, my_namespace = _parts(this_host() if here is None else here)
    if boot != my_boot:  # a boot's id is random: another one is another kernel, or this machine before it started again
        return False if boot and my_boot and machine and machine == my_machine else None
    if namespace != my_namespace or (not boot and machine != my_machine):
        return None
    try:
        start = started(owner.pid)
    except PermissionError:
        return None
    tolerance_s = _START_TOLERANCE_S if boot else _START_TOLERANCE_WALL_S
    return start is not None and abs(start - owner.started) < tolerance_s


def _parts(host: str) -> tuple[str, str, str]:
    machine, boot, namespace = [*host.split(":"), "", "", ""][:3]
    return machine, boot, namespace


def _machine() -> str:
    """The machine's id, hashed as machine-id(5) asks. With the host's name, since cloned machines may share an id."""
    identity = _read("/etc/machine-id") or _read("/var/lib/dbus/machine-id")
    if not identity and sys.platform != "linux":
        identity = f"{uuid.getnode():x}"
    if not identity:
        return ""
    return hashlib.sha256(f"elastic {identity} {platform.node()}".encode()).hexdigest()[:16]


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""
