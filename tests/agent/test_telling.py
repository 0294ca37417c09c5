"""What an agent tells: news at once, also when the first word is lost; and nothing that cannot be told."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.agent.supervisor import TELL_AGAIN_AFTER_S
from orchestrator.jobs.instances import TrainerExit
from orchestrator.jobs.pace import THRIFTY
from orchestrator.store.protocol import StoreUnreachable
from tests.agent.virtual_machine import VirtualMachine
from tests.support.interposed import Operation


@pytest.fixture
def training(tmp_path: Path) -> VirtualMachine:
    """One on a bucket that bills each request, between two heartbeats."""
    machine = VirtualMachine(tmp_path, pace=THRIFTY)
    machine.assign()
    machine.live(62)
    return machine


def test_news_whose_heartbeat_was_lost_are_told_again_soon(training: VirtualMachine) -> None:
    puts: list[float] = []

    def loses(operation: Operation, _key: str, call: Callable[[], object]) -> object:
        if operation == "put":
            puts.append(training.now_s)
            if training.agent._state() == "stopped" and len(puts) < 4:
                raise StoreUnreachable("just now")
        return call()

    training.prompt_store.around = loses
    training.exits_with = TrainerExit(outcome="failed", code=1, message="failed")
    while not puts:
        training.live(1)
    training.live(4 * TELL_AGAIN_AFTER_S)
    assert training.beat.state == "stopped"
    assert [later - earlier for earlier, later in pairwise(puts)][:3] == [TELL_AGAIN_AFTER_S] * 3
