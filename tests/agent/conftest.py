"""A store, nonces, and what an agent tells."""

from collections.abc import Callable
from itertools import count

import pytest

from orchestrator.store.memory import MemoryStore

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
