"""A store, nonces, and what an agent tells."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from orchestrator.fleets.processes import end_marked_processes
from orchestrator.store.memory import MemoryStore
from tests.agent.real_agent import Instance

Told = list[tuple[str, str]]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def nonce() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"{next(numbers):08d}"


@pytest.fixture
def told() -> Told:
    """The notices so far: kind and message."""
    return []


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    """A real agent that was not started yet."""
    instance = Instance(tmp_path)
    yield instance
    end_marked_processes(str(instance.work_dir), grace_s=0)
    if instance.process is not None:
        instance.process.wait(10)
