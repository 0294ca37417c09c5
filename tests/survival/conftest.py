import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.survival.system import System, undisturbed_digest


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of an undisturbed run: what every other must end with."""
    return undisturbed_digest(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def system(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[System]:
    """An elastic with one daemon. The moments of its kills are drawn from ELASTIC_TEST_SEED and the test's name."""
    seed = int(os.environ.get("ELASTIC_TEST_SEED", "0")) + zlib.crc32(request.node.name.encode())
    system = System.at(tmp_path, seed)
    system.start_daemon()
    try:
        yield system
    finally:
        system.close()
