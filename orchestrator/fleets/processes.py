"""Processes as instances: told apart by pid and start time, ended with everything that they started.

A pid alone can come to name another process; a pid with its start in this boot of the machine cannot. Every process of
an instance carries the instance's marker in its environment, so that those whose parents are gone are found too.
"""

import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

import psutil

from orchestrator.store.owner import Owner, owner_alive

MARKER = "ELASTIC_INSTANCE"
"""Environment variable that every process of an instance carries: its work directory, unique on the machine."""


def read_identity(path: Path) -> Owner | None:
    """The process that a file names, or None if there is no such file (or half of one)."""
    try:
        return Owner(**json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def write_identity(path: Path, process: Owner) -> None:
    """Name a process in a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(process)))
    os.replace(temporary, path)


def is_alive(process: Owner) -> bool:
    """Whether a process runs here; one that has ended and was not yet waited for does not."""
    return owner_alive(process) is True


def age_s(process: Owner) -> float | None:
    """How long a process of this boot has lived, by no clock that anybody sets; None where the system keeps none."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return None if boot_time is None else max(0.0, time.clock_gettime(boot_time) - process.started)


def marked_processes(marker: str, variable: str = MARKER) -> list[psutil.Process]:
    """Every process of this user, but this one, that has `marker` in that environment variable."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(variable) == marker:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def processes_by_marker(variable: str = MARKER) -> dict[str, list[psutil.Process]]:
    """Every process of this user that carries a marker, but this one, by what the marker says."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            marker = process.environ().get(variable)
            if marker and process.pid != os.getpid() and is_running(process):
                found.setdefault(marker, []).append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def end_marked_processes(marker: str, grace_s: float, variable: str = MARKER) -> None:
    """SIGTERM, then after the grace SIGKILL, to all that carry the marker, until none is left.

    After ten seconds it gives up: a process that waits for a disk or a GPU does not end until that answers.
    """
    processes = marked_processes(marker, variable)
    if grace_s > 0:
        for process in processes:
            _signal(process, signal.SIGTERM)
        psutil.wait_procs(processes, timeout=grace_s)
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        alive = [process for process in marked_processes(marker, variable) if is_running(process)]
        if not alive:
            return
        for process in alive:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=1)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def is_running(process: psutil.Process) -> bool:
    """Whether it is there still, and not only waits to be waited for."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
