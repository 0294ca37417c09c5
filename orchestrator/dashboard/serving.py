"""The socket, and the server on it, until a signal ends it."""

import socket
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from orchestrator.errors import UsageError
from orchestrator.jobs.instances import LOOPBACK

_ALL_ADDRESSES = "0.0.0.0"
_MARKS_OF_CONTAINERS = (".dockerenv", "run/.containerenv")
_MOST_CONNECTIONS = 100


def listen(port: int, *, in_container: bool, root: Path = Path("/")) -> socket.socket:
    """A socket on loopback; port 0: on one that is free.

    In a container loopback is the container's own and cannot be published: there, and only there (`root` shows whether
    this is one), it may be reached from outside. Raises UsageError.
    """
    if in_container and not any((root / mark).exists() for mark in _MARKS_OF_CONTAINERS):
        raise UsageError(
            "--in-container: this is none, and without one whoever reaches this machine could look at its jobs; leave "
            "it out, and from another machine come through ssh -L"
        )
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_ALL_ADDRESSES if in_container else LOOPBACK, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise UsageError(
            f"port {port} cannot be listened on ({error.strerror}): choose another with --port, or any that is free "
            "with --port 0"
        ) from error
    return listening


def server(app: ASGIApp) -> uvicorn.Server:
    """Answers until SIGINT or SIGTERM, which then takes its usual course."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=16_384,
    )
    return uvicorn.Server(config)
