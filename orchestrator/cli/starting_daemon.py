"""A controller in the background, when none is alive and the job needs one here."""

from typing import TYPE_CHECKING

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.prose import say

if TYPE_CHECKING:
    from orchestrator.store.protocol import Store


def start_daemon_if_none(store: "Store", invocation: Invocation) -> None:
    """Start `elastic daemon` detached unless one holds the lease; say so, for it outlives this command."""
    from orchestrator.controller.background import ensure_daemon

    started = ensure_daemon(store, invocation.environ)
    if started is not None:
        say(f"Started a controller in the background (pid {started.pid}); it ends when idle for 10 minutes.")
        say(f"Its log: {started.log_path}")
