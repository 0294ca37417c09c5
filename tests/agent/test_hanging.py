"""A turn that hangs is seen by the watchdog's thread; a process that was stopped for a while does not hang."""

from orchestrator.agent.supervisor import HUNG_AFTER_S
from tests.agent.virtual_machine import VirtualMachine


def asked(machine: VirtualMachine, seconds: float) -> str | None:
    """What it says when it is asked every second, while no turn begins."""
    until_s = machine.now_s + seconds
    said = machine.agent.overdue()
    while said is None and machine.now_s < until_s:
        machine.now_s += 1.0
        said = machine.agent.overdue()
    return said


def test_a_turn_that_takes_too_long_is_told(training: VirtualMachine) -> None:
    assert asked(training, HUNG_AFTER_S) is None
    assert asked(training, 1) == "a turn has taken 601 s"


def test_who_was_stopped_with_its_watchdog_for_longer_does_not_hang(training: VirtualMachine) -> None:
    """As by SIGSTOP, a freezer, or a pause of its virtual machine: the watchdog may be the first to go on."""
    assert asked(training, 1) is None
    training.now_s += 2 * HUNG_AFTER_S
    assert training.agent.overdue() is None
    assert training.live(60)
    assert training.committed > 60
    assert asked(training, HUNG_AFTER_S) is None


def test_who_hangs_after_it_was_stopped_is_waited_for_as_long_as_ever(training: VirtualMachine) -> None:
    assert asked(training, 1) is None
    training.now_s += 2 * HUNG_AFTER_S
    assert asked(training, HUNG_AFTER_S) is None
    assert asked(training, 1) == "a turn has taken 601 s"
