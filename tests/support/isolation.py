"""A test session of its own: away from the person's data and credentials, and with every process it starts marked."""

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import platformdirs
import psutil

SESSION_VARIABLE = "ELASTIC_TEST_SESSION"
CACHE_VARIABLE = "ELASTIC_TEST_CACHE"
"""A directory of the person's after all: what takes long to make and is the same for every session."""
# Python starts these beside a process that uses multiprocessing; they end with it.
_PYTHONS_OWN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
_FOR_THE_TESTS = ("ELASTIC_TEST_ALL", "ELASTIC_TEST_SEED", CACHE_VARIABLE)


def isolate(environ: MutableMapping[str, str], directory: Path, session: str) -> None:
    """Point everything that elastic or a cloud library would find in the person's home into `directory`."""
    environ.setdefault(CACHE_VARIABLE, platformdirs.user_cache_dir("elastic-tests"))
    for name in [name for name in environ if name.startswith(("AWS_", "ELASTIC_")) and name not in _FOR_THE_TESTS]:
        del environ[name]
    places = {"HOME": "home", "TMPDIR": "tmp"}
    places |= {f"XDG_{kind}_HOME": kind.lower() for kind in ("DATA", "STATE", "CACHE", "CONFIG")}
    for name, place in places.items():
        (directory / place).mkdir(parents=True, exist_ok=True)
        environ[name] = str(directory / place)
    environ.update(
        {
            "ELASTIC_STORE": f"file://{directory / 'store'}",
            SESSION_VARIABLE: session,
            # Signed requests need some key; this one opens nothing.
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )


def left_over(session: str) -> Iterator[psutil.Process]:
    """Processes that this session started, by themselves or through others, and that still run."""
    for process in psutil.process_iter():
        try:
            is_ours = process.pid != os.getpid() and process.environ().get(SESSION_VARIABLE) == session
            is_over = process.status() == psutil.STATUS_ZOMBIE
            if is_ours and not is_over and not any(name in " ".join(process.cmdline()) for name in _PYTHONS_OWN):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue


def end_left_over(session: str, grace_s: float) -> list[str]:
    """Wait for the session's processes to end, kill those that do not, and say which they were."""
    psutil.wait_procs(list(left_over(session)), timeout=grace_s)
    killed = []
    while stubborn := list(left_over(session)):  # again, in case one of them started another
        for process in stubborn:
            try:
                environ, command = process.environ(), " ".join(process.cmdline())
                process.kill()
            except psutil.NoSuchProcess:
                continue
            instance = environ.get("ELASTIC_INSTANCE")
            killed.append(f"{process.pid} {command[:200]}" + (f" (instance {instance})" if instance else ""))
        psutil.wait_procs(stubborn, timeout=grace_s)
    return killed
