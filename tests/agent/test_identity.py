"""Two machines of one name: the assignment is for one of them, and the other says and does nothing more."""

from pathlib import Path

from tests.agent.virtual_machine import VirtualMachine


def test_a_machine_that_the_assignment_is_not_for_leaves_without_a_word(tmp_path: Path) -> None:
    machine = VirtualMachine(tmp_path, instance_id="i-second")
    assert machine.live(5)
    assert machine.beat.instance_id == "i-second"
    heard = machine.beat
    machine.assign(instance_id="i-first")
    assert not machine.live(10)
    assert machine.beat.count <= heard.count + 1
    assert machine.beat.state == "ready"
    assert machine.launchers[0].run is None
    assert "is i-first, and this is i-second" in machine.log[-1]


def test_one_that_was_training_ends_its_workers(tmp_path: Path) -> None:
    machine = VirtualMachine(tmp_path, instance_id="i-second")
    machine.assign(instance_id="i-second")
    assert machine.live(10)
    assert machine.beat.state == "running"
    machine.assign(instance_id="i-first")
    assert not machine.live(10)
    assert machine.launchers[0].killed
    assert machine.beat.state == "running"


def test_an_assignment_that_names_none_is_for_whoever_has_the_name(tmp_path: Path) -> None:
    machine = VirtualMachine(tmp_path, instance_id="i-first")
    machine.assign()
    assert machine.live(10)
    assert machine.beat.state == "running"


def test_a_machine_without_a_provider_has_its_name_alone(tmp_path: Path) -> None:
    machine = VirtualMachine(tmp_path)
    machine.assign(instance_id="i-first")
    assert machine.live(10)
    assert (machine.beat.state, machine.beat.instance_id) == ("running", "")
