"""Nodes beside the first: a trainer need not report there, and all the same they are measured and watched over."""

from pathlib import Path

import pytest

from orchestrator.agent.standstill import LEAST_S, PATIENCE
from orchestrator.jobs.head import Manifest, commit
from orchestrator.store.document import random_nonce
from tests.agent.virtual_machine import CHECKPOINT_EVERY_S, JOB, VirtualMachine

STALL_S = 200.0
LONG_S = PATIENCE * STALL_S + LEAST_S


@pytest.fixture
def second(tmp_path: Path) -> VirtualMachine:
    """The second of two nodes, whose trainer writes its lines on the first alone."""
    machine = VirtualMachine(tmp_path)
    machine.says_nothing = machine.keeps_to_itself = True
    machine.percent = 90.0
    machine.assign(node_rank=1, nodes=2, stall_after_s=STALL_S)
    return machine


def first_commits(machine: VirtualMachine, step: int) -> None:
    """What the first node's agent does."""
    manifest = Manifest(step=step, generation=1, final=False, files=())
    commit(machine.bucket, JOB, 1, manifest, random_nonce)


def test_it_is_measured_from_its_start(second: VirtualMachine) -> None:
    assert second.live(20)
    assert second.beat.progress is None
    assert second.beat.utilization is not None
    assert 15 <= second.beat.utilization.count <= 20
    assert set(second.beat.utilization.percents) == {90.0}


def test_from_the_first_line_on_if_there_is_one(second: VirtualMachine) -> None:
    assert second.live(20)
    second.says_nothing = False
    assert second.live(6)
    assert second.beat.progress is not None
    assert second.beat.utilization is not None
    assert 4 <= second.beat.utilization.count <= 6


def test_the_first_is_measured_from_its_first_line_on(tmp_path: Path) -> None:
    first = VirtualMachine(tmp_path)
    first.says_nothing, first.percent = True, 90.0
    first.assign(node_rank=0, nodes=2)
    assert first.live(20)
    assert first.beat.utilization is None
    first.says_nothing = False
    assert first.live(6)
    assert first.beat.utilization is not None
    assert 4 <= first.beat.utilization.count <= 6


def test_it_does_not_stand_still_while_the_first_commits(second: VirtualMachine) -> None:
    for step in range(int(3 * LONG_S / CHECKPOINT_EVERY_S)):
        first_commits(second, step + 1)
        assert second.live(CHECKPOINT_EVERY_S), second.log


def test_when_nothing_is_committed_any_more_it_leaves(second: VirtualMachine) -> None:
    assert second.live(10)
    first_commits(second, 5)
    assert second.live(LONG_S - 10)
    assert not second.live(100)
    assert "the workers have stood still" in second.log[-1]
    assert second.launchers[0].killed


def test_checkpoints_that_are_far_apart_are_waited_for(second: VirtualMachine) -> None:
    second.assign(node_rank=1, nodes=2, stall_after_s=STALL_S, checkpoint_every_s=10 * STALL_S)
    assert second.live(2 * LONG_S)
