"""Waiting for a condition, with a bound."""

import time
from collections.abc import Callable

BOUND_S = 60.0


def wait_until(condition: Callable[[], object], what: str, bound_s: float = BOUND_S) -> None:
    """Wait until the condition holds; fail when it does not within the bound."""
    give_up_s = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < give_up_s, f"waited {bound_s:g} s in vain: {what}"
        time.sleep(0.02)
