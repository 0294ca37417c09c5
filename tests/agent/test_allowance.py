"""However long an instance may live, it keeps to it, whatever hangs; and before that it commits what it has."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.jobs.instances import LEAVE_WITHIN_S
from tests.agent.test_ends import asked_to_leave_and_deaf, cut_off_and_deaf, cut_off_and_immortal, drained_and_deaf
from tests.agent.virtual_machine import VirtualMachine
from tests.support.interposed import Away

ALLOWANCE_S = 1000.0


@pytest.fixture
def allowed(tmp_path: Path) -> VirtualMachine:
    """One that may live for a while and trains."""
    machine = VirtualMachine(tmp_path, allowance_s=ALLOWANCE_S)
    machine.assign(allowance_s=ALLOWANCE_S)
    return machine


def test_before_its_allowance_is_used_it_checkpoints_commits_and_ends(allowed: VirtualMachine) -> None:
    assert allowed.live(ALLOWANCE_S - LEAVE_WITHIN_S - 1)
    assert not allowed.live(20)
    assert allowed.committed >= ALLOWANCE_S - LEAVE_WITHIN_S - 20
    assert f"leaving: the allowance of {ALLOWANCE_S:g} s is used" in allowed.log
    assert allowed.beat.state == "leaving"


def test_its_own_account_of_its_age_is_told(allowed: VirtualMachine) -> None:
    allowed.live(50)
    assert allowed.beat.uptime_s == pytest.approx(50, abs=2)


@pytest.mark.parametrize("ill", [cut_off_and_deaf, cut_off_and_immortal, asked_to_leave_and_deaf, drained_and_deaf])
@pytest.mark.parametrize("at_s", [100, 690, 980])
def test_by_then_it_has_ended_whatever_hangs(
    allowed: VirtualMachine, at_s: int, ill: Callable[[VirtualMachine], None]
) -> None:
    allowed.live(at_s)
    ill(allowed)
    assert not allowed.live(ALLOWANCE_S - allowed.now_s)
    assert all(ranks.killed for ranks in allowed.launchers)


def test_time_to_commit_is_used_up_to_the_last_moments(allowed: VirtualMachine) -> None:
    """The store is away until shortly before the end."""
    allowed.live(ALLOWANCE_S - LEAVE_WITHIN_S - 50)
    allowed.store.around = away = Away()
    allowed.live(300)
    away.away = False
    assert not allowed.live(30)
    assert allowed.committed >= ALLOWANCE_S - LEAVE_WITHIN_S - 1


def test_with_less_than_it_takes_to_leave_it_leaves_at_once(tmp_path: Path) -> None:
    machine = VirtualMachine(tmp_path, allowance_s=LEAVE_WITHIN_S / 2)
    assert not machine.live(5)


def test_the_controller_may_give_more_and_less(allowed: VirtualMachine) -> None:
    allowed.live(500)
    allowed.assign(allowance_s=3 * ALLOWANCE_S)
    assert allowed.live(2 * ALLOWANCE_S)
    allowed.assign(allowance_s=2.5 * ALLOWANCE_S)
    assert not allowed.live(5)


def test_without_an_allowance_it_lives_as_long_as_it_is_needed(allowed: VirtualMachine) -> None:
    allowed.assign(allowance_s=None)
    assert allowed.live(5 * ALLOWANCE_S)
