"""A daemon in the background, for people who just submit: started when none is alive on the store, ending when idle."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from orchestrator.store.lease import read_lease
from orchestrator.store.owner import owner_alive
from orchestrator.store.protocol import Store

IDLE_EXIT = "10m"


@dataclass(frozen=True)
class BackgroundDaemon:
    """A daemon that was started here."""

    pid: int
    log_path: Path


def ensure_daemon(store: Store, environ: Mapping[str, str]) -> BackgroundDaemon | None:
    """Start a daemon unless one on this machine holds the lease (then None): a second would only stand by."""
    lease = read_lease(store)
    if lease is not None and not lease.released and owner_alive(lease.owner):
        return None
    log_path = daemon_log_path(store.url)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "orchestrator.cli.main", "--store", store.url, "daemon"]
    with open(log_path, "ab") as log:
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
