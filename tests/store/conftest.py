"""The stores that the contract is tried on, by the URLs that a person would give."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store import Store, open_store, parts
from orchestrator.store.s3_download import PART_BYTES
from tests.support.moto_server import make_bucket, moto_server
from tests.support.s3_servers import ministack_server, ministack_store, seaweed_server, seaweed_store

__all__ = ["ministack_server", "ministack_store", "moto_server", "seaweed_server", "seaweed_store"]

BUCKET = "elastic-tests"

SERVERS = [
    "moto",
    pytest.param("seaweedfs", marks=pytest.mark.requires("seaweedfs")),
    pytest.param("ministack", marks=pytest.mark.requires("ministack")),
]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads go in parts as small as those of downloads: files of several need not be large."""
    monkeypatch.setattr(parts, "PART_BYTES", PART_BYTES)


@pytest.fixture(scope="session")
def bucket(moto_server: str) -> str:
    """A bucket on moto's server, for the whole session: each test has a prefix of its own in it."""
    make_bucket(BUCKET)
    return BUCKET


def url_of(kind: str, request: pytest.FixtureRequest) -> str:
    """The URL of a new, empty store of this kind."""
    match kind:
        case "memory":
            return "memory:"
        case "local":
            path: Path = request.getfixturevalue("tmp_path")
            return (path / "a store").as_uri()
        case "seaweedfs":
            return str(request.getfixturevalue("seaweed_store"))
        case "ministack":
            return str(request.getfixturevalue("ministack_store"))
    return f"s3://{request.getfixturevalue('bucket')}/{secrets.token_hex(6)}/prefix"


@pytest.fixture(params=["memory", "local", *SERVERS])
def store(request: pytest.FixtureRequest) -> Store:
    """A new, empty store of each kind."""
    return open_store(url_of(request.param, request), os.environ)


@pytest.fixture(params=["local", *SERVERS])
def shared_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new, empty store that several processes can open."""
    return url_of(request.param, request)


@pytest.fixture
def local_root(tmp_path: Path) -> Path:
    """A directory for a local store."""
    return tmp_path / "store"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    path = tmp_path / "small-disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
