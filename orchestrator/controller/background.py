"""A daemon in the background, for people who just submit: started when none is alive on the store, ending when idle."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import platformdirs

from orchestrator.errors import ElasticError
from orchestrator.store.lease import read_lease
from orchestrator.store.owner import owner_alive
from orchestrator.store.protocol import Store

IDLE_EXIT = "10m"


@dataclass(frozen=True)
class BackgroundDaemon:
    """A daemon that was started here."""

    pid: int
    log_path: Path


def require_daemon_startable(store: Store) -> None:
    """Raise ElasticError if a daemon is needed here and could not be started: to be asked before anything is written.

    That it could is tried, not guessed: its log is there afterwards.
    """
    if not _daemon_alive_here(store):
        _open_log(daemon_log_path(store.url)).close()


def ensure_daemon(store: Store, environ: Mapping[str, str]) -> BackgroundDaemon | None:
    """Start a daemon unless one on this machine holds the lease (then None): a second would only stand by.

    Raises ElasticError when its log cannot be written.
    """
    if _daemon_alive_here(store):
        return None
    log_path = daemon_log_path(store.url)
    command = [sys.executable, "-m", "orchestrator.cli.main", "--store", store.url, "daemon"]
    with _open_log(log_path) as log:
        process = subprocess.Popen(
            [*command, "--background", "--idle-exit", IDLE_EXIT],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(environ),
            start_new_session=True,
        )
    return BackgroundDaemon(process.pid, log_path)


def daemon_log_path(store_url: str) -> Path:
    """Where the background daemon of a store logs."""
    name = hashlib.sha256(store_url.encode()).hexdigest()[:12]
    return Path(platformdirs.user_log_dir("elastic")) / f"daemon-{name}.log"


def _daemon_alive_here(store: Store) -> bool:
    lease = read_lease(store)
    return lease is not None and not lease.released and owner_alive(lease.owner) is True


def _open_log(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "ab")
    except OSError as error:
        raise ElasticError(
            f"a controller in the background cannot log to {path.parent} ({error.strerror}): set XDG_STATE_HOME to a "
            "directory that can be written, or use --no-daemon and run elastic daemon where it can"
        ) from error
