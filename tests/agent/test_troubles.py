"""What the trainer refuses, training that is not committed, and workers that stand still: judged and told."""

import pytest

from orchestrator.agent.run_directory import BAD_INPUT, HOPELESS
from orchestrator.jobs import layout
from orchestrator.jobs.head import seal
from orchestrator.jobs.instances import TrainerExit
from orchestrator.store.document import random_nonce
from tests.agent.virtual_machine import CHECKPOINT_EVERY_S, JOB, VirtualMachine
from tests.support.interposed import Away

# --- what the trainer refuses -----------------------------------------------------------------------------------------


def refused(code: int) -> TrainerExit:
    return TrainerExit(outcome="refused", code=code, message="bad input")


@pytest.mark.parametrize(
    ("code", "steps", "commits", "outcome"),
    [
        (BAD_INPUT, 0, False, "refused"),
        (BAD_INPUT, 3, False, "failed"),
        (BAD_INPUT, 0, True, "failed"),
        (HOPELESS, 3, True, "refused"),
    ],
)
def test_a_refusal_is_doubted_once_the_same_order_has_trained(
    machine: VirtualMachine, code: int, steps: int, commits: bool, outcome: str
) -> None:
    """At first bad input is what it is; later it may be a network that is away. A loss that is no number stays one.

    A step is enough, also where nothing was committed yet.
    """
    resume = None
    if commits:
        machine.assign()
        machine.live(CHECKPOINT_EVERY_S + 5)
        resume = layout.checkpoint_prefix(JOB, machine.committed, 1)
        machine.assign("stop")
        machine.live(5)
    machine.stuck = steps == 0
    machine.assign("run", generation=2, resume=resume)
    machine.live(max(3, steps))
    machine.exits_with = refused(code)
    machine.live(5)
    assert machine.beat.exit is not None
    assert (machine.beat.generation, machine.beat.exit.outcome) == (2, outcome)


# --- training that is not committed -----------------------------------------------------------------------------------


def complaints(machine: VirtualMachine) -> list[str]:
    return [line for line in machine.log if line.startswith("training goes on, but nothing of it was committed")]


def test_commits_that_stop_while_training_goes_on_are_told_with_the_reason_and_again_each_hour(
    training: VirtualMachine,
) -> None:
    training.store.around = away = Away(frozenset({"create"}))
    training.live(550)
    assert complaints(training) == []
    assert training.beat.complaint == ""
    training.live(60)
    assert complaints(training) == [training.beat.notices[-1].message]
    assert training.beat.notices[-1].kind == "checkpoint_failed"
    assert "could not be committed, trying again: create" in training.beat.notices[-1].message
    assert training.beat.uncommitted_s == pytest.approx(630, abs=30)
    assert "nothing was committed for" in training.beat.complaint
    training.live(2 * 3600)
    assert len(complaints(training)) == 3
    away.away = False
    training.live(120)
    assert (training.beat.complaint, training.beat.uncommitted_s < 120) == ("", True)


def test_a_trainer_that_writes_no_checkpoint_is_told_of(machine: VirtualMachine) -> None:
    machine.keeps_to_itself = True
    machine.assign()
    machine.live(700)
    assert [line.rpartition(": ")[2] for line in complaints(machine)] == ["the trainer has written no checkpoint"]


def test_a_leader_that_gives_no_orders_is_told_of(training: VirtualMachine) -> None:
    """It has sealed the head, and died."""
    seal(training.bucket, JOB, 2, 1, random_nonce)
    training.live(800)
    assert "waits for the new leader's orders" in complaints(training)[0]


def test_checkpoints_that_are_far_apart_are_waited_for(training: VirtualMachine) -> None:
    training.keeps_to_itself = True
    training.assign(generation=2, checkpoint_every_s=1800.0)
    training.live(5 * 1800)
    assert complaints(training) == []
    training.live(60)
    assert len(complaints(training)) == 1


def test_while_all_is_well_nothing_is_told(training: VirtualMachine) -> None:
    training.live(7200)
    assert complaints(training) == []
    assert training.beat.notices == ()


# --- standing still ---------------------------------------------------------------------------------------------------


def test_who_is_stopped_for_standing_still_may_say_where(training: VirtualMachine) -> None:
    training.stuck = True
    training.assign("stop", dump_stacks=True)
    training.live(1)
    [ranks] = training.launchers
    assert (ranks.dumped, ranks.killed) == (1, False)
    training.live(5)
    assert (ranks.dumped, ranks.killed) == (1, True)
    assert training.beat.exit is not None
    assert training.beat.exit.message == "the controller asked"


def test_who_does_not_drain_is_asked_where_it_stands(training: VirtualMachine) -> None:
    training.deaf = True
    training.assign("drain")
    training.live(290)
    assert training.launchers[0].dumped == 0
    training.live(20)
    assert training.launchers[0].dumped == 1
    assert training.beat.exit is not None
    assert training.beat.exit.message == "the workers did not drain within 300 s"


def test_other_workers_are_just_ended(training: VirtualMachine) -> None:
    training.assign("stop")
    training.live(2)
    assert (training.launchers[0].dumped, training.launchers[0].killed) == (0, True)
