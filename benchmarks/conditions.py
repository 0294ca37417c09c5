"""What a figure was measured on: without it, it says nothing."""

import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import psutil


def conditions(command: str, started_at: datetime, load_before: float, runs: int) -> Iterator[tuple[str, str]]:
    """Name and value of whatever the figures depend on, as it is now, after measuring."""
    yield "command", f"`{command}`, {runs} runs of each unless said otherwise"
    yield "date", f"{started_at:%Y-%m-%d %H:%M} UTC"
    yield "machine", f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory()}, {_gpus()}"
    yield "system", f"{platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')}, kernel {platform.release()}"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "pydantic", "typer"))
    yield "versions", f"elastic {version('elastic')} ({_commit()}), Python {platform.python_version()}, {libraries}"
    yield "load average over a minute", f"{load_before:.1f} before, {os.getloadavg()[0]:.1f} after"
    yield "file cache", "warm: everything was run once before"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    return f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory"


def _gpus() -> str:
    import pynvml

    try:
        pynvml.nvmlInit()
        names = [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError:
        return "no GPU"
    return ", ".join(map(str, names)) or "no GPU"


def _commit() -> str:
    """The revision that was measured, marked if files differ from it."""
    root = Path(__file__).parent.parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "not from a clone"
    return described.stdout.strip()
