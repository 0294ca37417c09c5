"""A store, and nonces that a person can tell apart."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

import pytest

from orchestrator.store.memory import MemoryStore

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def nonce() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"{next(numbers):08d}"
