"""What a command is given from outside: environment, clock, randomness. Made here, nowhere else, and passed on."""

import getpass
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import typer

if TYPE_CHECKING:
    from orchestrator.store.protocol import Store


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _nonce() -> str:
    return uuid4().hex


@dataclass(frozen=True)
class Invocation:
    """One call of `elastic`."""

    environ: Mapping[str, str]
    store_url: str | None = None
    """From `elastic --store URL COMMAND`; `elastic COMMAND --store URL` is more specific and wins."""
    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    nonce: Callable[[], str] = _nonce

    @classmethod
    def of(cls, context: typer.Context) -> "Invocation":
        """The invocation that a command runs in."""
        found = context.find_object(cls)
        return found if found is not None else cls(environ=dict(os.environ))

    def open_store(self, url: str | None) -> "Store":
        """The store of this call: --store, else ELASTIC_STORE, else the user's own directory."""
        from orchestrator.store.open import open_store

        return open_store(url or self.store_url, self.environ)

    def asker(self) -> str:
        """Who asks, for the events: user and machine."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container's user without a name
            user = f"uid {os.getuid()}"
        return f"{user}@{socket.gethostname()}"
