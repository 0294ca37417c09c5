"""What holds for every test: it touches nothing of the person's, and nothing that it starts outlives the session."""

import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.docker_engine import docker_engine, session_engine  # noqa: F401  # fixtures of every test
from tests.support.docker_images import images, libraries  # noqa: F401
from tests.support.engines import ENGINES, require
from tests.support.isolation import SESSION_VARIABLE, end_left_over, isolate
from tests.support.sharing import SURVIVAL, ByModule, share_of

_GRACE_S = 15.0


def pytest_configure(config: pytest.Config) -> None:
    """Isolate before any test module is imported, since some read the environment then."""
    directory = tempfile.TemporaryDirectory(prefix="elastic-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(directory.cleanup)
    isolate(os.environ, Path(directory.name), session=uuid.uuid4().hex)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, and inherited
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for the whole suite, of which much is waiting; a part of it is not worth the second one."""
    return 2 if config.args == config.getini("testpaths") and (os.cpu_count() or 1) > 1 else 0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Who runs what: see `ByModule`."""
    return ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first. Refuse a misspelt engine at once, also where its test would be skipped."""
    items.sort(key=lambda item: share_of(item.nodeid) != SURVIVAL)
    for item in items:
        for marker in item.iter_markers("requires"):
            if not set(marker.args) <= set(ENGINES):
                raise pytest.UsageError(f"{item.nodeid} requires {marker.args}; known are {', '.join(ENGINES)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose engine is missing, or fail it where all were promised."""
    for marker in item.iter_markers("requires"):
        for engine in marker.args:
            require(engine)


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_session() -> Iterator[None]:
    """Set up first and so torn down last: whatever still runs then was forgotten by a test."""
    yield
    if killed := end_left_over(os.environ[SESSION_VARIABLE], _GRACE_S):
        pytest.fail("processes outlived their tests and were killed:\n" + "\n".join(killed), pytrace=False)
