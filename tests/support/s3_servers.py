"""S3 servers of others: SeaweedFS and ministack, which keep conditions, and rclone's, which ignores them.

In a test module or conftest: `from tests.support.s3_servers import seaweed_server, seaweed_store  # noqa: F401`, and
mark what uses them `@pytest.mark.requires("seaweedfs")`. `seaweed_store` gives the URL of a new, empty store; the
credentials and the endpoint are in the environment for the length of the test, for this process and those it starts.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.rehearsal import seaweed
from orchestrator.rehearsal.seaweed import Identity
from orchestrator.rehearsal.serving import executable, serving
from orchestrator.store import open_store
from tests.support.moto_server import environment, make_bucket

BUCKET = "elastic-tests"  # one for all: SeaweedFS keeps volumes for each
READER = "reader"
"""SeaweedFS's second identity, access key and secret key in one: it may list and read, and nothing else."""


def _command(name: str) -> str:
    found = executable(name)
    assert found is not None, f"there is no {name} command: mark the test with its engine"
    return found


@contextmanager
def running_seaweed() -> Iterator[str]:
    """Start SeaweedFS with the identity of the tests and one that only reads, give its URL, and end it."""
    keys = environment("")
    tests = Identity("tests", keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    with seaweed.running_seaweed([tests, Identity("reader", READER, READER, ("Read", "List"))]) as url:
        yield url


@contextmanager
def running_ministack() -> Iterator[str]:
    """Start ministack's S3, give its URL, and end it."""

    def command(directory: Path, ports: Sequence[int]) -> Sequence[str]:
        settings = {
            "GATEWAY_PORT": str(ports[0]),
            "BIND_HOST": "127.0.0.1",
            "SERVICES": "s3",
            "LOG_LEVEL": "WARNING",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "S3_DATA_DIR": str(directory / "data"),
        }
        return ["/usr/bin/env", *(f"{name}={value}" for name, value in settings.items()), _command("ministack")]

    with serving(command, ports=1, health="/_ministack/health", environ=os.environ) as url:
        yield url


@contextmanager
def running_rclone() -> Iterator[str]:
    """Start rclone's S3 server, which takes every condition and keeps none; give its URL, and end it."""

    def command(directory: Path, ports: Sequence[int]) -> Sequence[str]:
        keys = environment("")
        pair = f"{keys['AWS_ACCESS_KEY_ID']},{keys['AWS_SECRET_ACCESS_KEY']}"
        data = directory / "data"
        data.mkdir()
        address = f"127.0.0.1:{ports[0]}"
        return [_command("rclone"), "serve", "s3", "--addr", address, "--auth-key", pair, "--config=", str(data)]

    with serving(command, ports=1, health="/", environ=os.environ) as url:
        yield url


def use_server(url: str, patch: pytest.MonkeyPatch) -> None:
    """Lead the environment to this server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION", "ELASTIC_BUCKET_OWNER"):
        patch.delenv(name, raising=False)
    for name, value in environment(url).items():
        patch.setenv(name, value)


def new_store_url() -> str:
    """An empty place in the bucket of the tests."""
    return f"s3://{BUCKET}/{secrets.token_hex(6)}/prefix"


def _with_bucket(url: str) -> str:
    """Make the bucket and write to it once: SeaweedFS may take 5 s to find a place for the very first object."""
    with pytest.MonkeyPatch.context() as patch:
        use_server(url, patch)
        make_bucket(BUCKET)
        store = open_store(f"s3://{BUCKET}/first", os.environ)
        store.put("object", b"")
        store.delete("object")
    return url


@pytest.fixture(scope="session")
def seaweed_server() -> Iterator[str]:
    """SeaweedFS for the whole session of tests, with a bucket. The environment does not lead to it yet."""
    with running_seaweed() as url:
        yield _with_bucket(url)


@pytest.fixture(scope="session")
def ministack_server() -> Iterator[str]:
    """ministack for the whole session of tests, with a bucket. The environment does not lead to it yet."""
    with running_ministack() as url:
        yield _with_bucket(url)


@pytest.fixture
def seaweed_store(seaweed_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new, empty store on SeaweedFS, which the environment leads to during the test."""
    use_server(seaweed_server, monkeypatch)
    return new_store_url()


@pytest.fixture
def ministack_store(ministack_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new, empty store on ministack, which the environment leads to during the test."""
    use_server(ministack_server, monkeypatch)
    return new_store_url()
