"""What the tests of containers share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.contained import Contained
from tests.support.docker_engine import Engine


@pytest.fixture
def contain(docker_engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Contained]]:
    """Makes workers in containers, and ends them."""
    made: list[Contained] = []

    def make(**settings: Any) -> Contained:
        made.append(Contained(docker_engine, tmp_path, **settings))
        return made[-1]

    yield make
    for contained in made:
        contained.close()
