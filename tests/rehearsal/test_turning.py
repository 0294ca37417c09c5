"""What looks after a rehearsal: it goes on through a moment without answers, and does not break in silence."""

import threading

import pytest

from orchestrator.rehearsal.turning import Health, RehearsalBroken, turning
from tests.support.waiting import wait_until


def test_it_goes_on_when_nobody_answers_for_a_moment() -> None:
    turns: list[None] = []

    def turn() -> None:
        turns.append(None)
        if len(turns) < 5:
            raise TimeoutError("busy")

    with turning("test", turn, 0.001):
        wait_until(lambda: len(turns) > 10, "turns")


@pytest.mark.parametrize("error", [ValueError("a fault"), TimeoutError("for ever")])
def test_what_broke_is_told_at_the_end(error: Exception) -> None:
    def turn() -> None:
        raise error

    def live_through() -> None:
        with turning("test", turn, 0.001):
            wait_until(lambda: "test" not in [thread.name for thread in threading.enumerate()], "it has given up")

    with pytest.raises(RehearsalBroken, match=str(error)):
        live_through()


@pytest.mark.timeout(60)
def test_whoever_waits_meanwhile_is_woken() -> None:
    health = Health()
    failing = threading.Event()

    def turn() -> None:
        if failing.is_set():
            raise ValueError("a fault")

    def live_through() -> None:
        with turning("test", turn, 0.001, health):
            health.sleep(0.01)
            failing.set()
            health.sleep(600)

    with pytest.raises(RehearsalBroken, match="a fault"):
        live_through()
