"""The containers of machines, which this machine's Docker engine runs: they do not end with who has ordered them."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.fleets.engine import remove_instances_below

MADE_WITHIN_S = 0.5
"""A container that was being made when its agent was ended is there a moment later."""


def end_containers(engine: Mapping[str, str], directory: Path, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Remove those of every agent whose work directory lies below this one, agents that have ended; whether all are.

    `engine`: the environment that leads to it. Raises EngineError.
    """
    left = remove_instances_below(engine, directory)
    sleep(MADE_WITHIN_S)
    return left + remove_instances_below(engine, directory) == 0
