"""What an agent tells: news at once, also when the first word is lost; and nothing that cannot be told."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.agent.supervisor import TELL_AGAIN_AFTER_S
from orchestrator.jobs.instances import TrainerExit
from orchestrator.jobs.pace import THRIFTY
from orchestrator.store.protocol import StoreError, StoreUnreachable
from tests.agent.virtual_machine import Nothing, VirtualMachine
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


HALF_A_CHARACTER = "\ud83d"


def test_half_a_character_in_what_a_trainer_says_harms_nothing(training: VirtualMachine) -> None:
    """JSON may hold one, UTF-8 may not: a program that cuts its lines by length writes such."""
    run = training.launchers[0].run
    assert run is not None
    run.said = [{"note": f"look {HALF_A_CHARACTER}"}, {"note": "x" * 10_000}]
    training.live(1)
    assert [notice.message for notice in training.beat.notices] == ["look ?", "x" * 500]
    training.stuck = True
    training.assign(generation=2)
    training.live(20)
    run = training.launchers[-1].run
    assert run is not None
    run.said = [{"activity": f"looking at {HALF_A_CHARACTER}"}]
    training.live(11)
    assert training.beat.activity == "looking at ?"


def test_an_error_that_names_a_file_whose_name_is_no_text_is_told(training: VirtualMachine) -> None:
    def fails(operation: Operation, _key: str, call: Callable[[], object]) -> object:
        if operation == "create":
            raise StoreError("/tmp/caf\udce9.bin cannot be read")
        return call()

    training.store.around = fails
    training.live(630)
    assert "/tmp/caf?.bin cannot be read" in training.beat.notices[-1].message
    assert "/tmp/caf?.bin cannot be read" in training.beat.complaint


def test_that_nothing_more_is_shipped_of_the_logs_is_told_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Nothing, "read", lambda *_: 1 / 0)
    machine = VirtualMachine(tmp_path)
    machine.assign()
    machine.live(200)
    assert [notice.message for notice in machine.beat.notices] == [
        "nothing more of what the workers print will be shipped: see agent.log"
    ]
    assert machine.committed == 180


def test_an_image_that_is_pulled_is_told_and_is_no_idleness(tmp_path: Path) -> None:
    machine = VirtualMachine(tmp_path, idle_exit_s=60)
    machine.cold, machine.pulling = True, "pulling trainer:1: 40 % of 2.1 GiB"
    machine.live(600)
    assert (machine.beat.state, machine.beat.activity) == ("booting", "pulling trainer:1: 40 % of 2.1 GiB")
    machine.cold, machine.pulling = False, ""
    machine.launchers[0].image = "trainer@sha256:1"
    machine.live(3)
    assert (machine.beat.state, machine.beat.activity, machine.beat.image) == ("ready", "", "trainer@sha256:1")
    machine.live(70)
    assert machine.ended_s is not None, "with the image there and no work it ends as ever"
