"""An agent that has nothing to do, or must not go on, ends by itself: within ten minutes, whatever hangs."""

import re
from collections import Counter
from collections.abc import Callable

import pytest

from orchestrator.agent.supervisor import STORE_LOST_AFTER_S
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record
from orchestrator.jobs.head import load_head, seal
from orchestrator.jobs.instances import LEAVE_WITHIN_S, AssignedProgram, TrainerExit
from orchestrator.jobs.phases import JobPhase
from orchestrator.store import document
from orchestrator.store.document import random_nonce
from orchestrator.store.protocol import Altered, StoreUnreachable
from tests.agent.virtual_machine import JOB, Checkpoint, VirtualMachine
from tests.support.interposed import Away, Operation, undisturbed

BOUND_S = 600.0


def never_told_to_work(machine: VirtualMachine) -> None:
    """The controller is gone since it was launched."""


def never_ready(machine: VirtualMachine) -> None:
    """Its launcher hangs, and nobody gives it work."""
    machine.cold = True


def finished(machine: VirtualMachine) -> None:
    machine.exits_with = TrainerExit(outcome="finished", code=0, message="finished")


def failed(machine: VirtualMachine) -> None:
    machine.exits_with = TrainerExit(outcome="failed", code=1, message="failed")


def stopped(machine: VirtualMachine) -> None:
    machine.assign("stop")


def stopped_and_immortal(machine: VirtualMachine) -> None:
    """Not even SIGKILL ends what hangs in the kernel."""
    machine.immortal = True
    machine.assign("stop")


def drained(machine: VirtualMachine) -> None:
    machine.assign("drain")


def drained_and_deaf(machine: VirtualMachine) -> None:
    machine.deaf = True
    machine.assign("drain")


def superseded(machine: VirtualMachine) -> None:
    """It was taken for dead, and nobody tells it."""
    seal(machine.bucket, JOB, 2, 2, random_nonce)


def told_nonsense(machine: VirtualMachine) -> None:
    machine.assign("stop")
    machine.live(5)
    machine.bucket.put(layout.assignment_key("digits-g1-n0-a0"), b"{")


def job_over(machine: VirtualMachine) -> None:
    record = load_record(machine.bucket, JOB)
    over = record.value.model_copy(update={"phase": JobPhase.CANCELLED})
    document.swap(machine.bucket, layout.record_key(JOB), record, over, random_nonce)


def job_over_and_immortal(machine: VirtualMachine) -> None:
    machine.immortal = True
    job_over(machine)


def job_removed(machine: VirtualMachine) -> None:
    machine.bucket.delete(layout.record_key(JOB))


def cut_off(machine: VirtualMachine) -> None:
    """And the job may be over by now."""
    machine.store.around = Away()


def cut_off_and_deaf(machine: VirtualMachine) -> None:
    machine.deaf = True
    cut_off(machine)


def cut_off_and_immortal(machine: VirtualMachine) -> None:
    machine.immortal = machine.deaf = True
    cut_off(machine)


def asked_to_leave(machine: VirtualMachine) -> None:
    machine.agent.leave("SIGTERM")


def asked_to_leave_and_deaf(machine: VirtualMachine) -> None:
    machine.deaf = machine.immortal = True
    machine.agent.leave("SIGTERM")


def asked_to_leave_and_cut_off(machine: VirtualMachine) -> None:
    cut_off(machine)
    machine.agent.leave("SIGTERM")


@pytest.mark.parametrize("ill", [never_told_to_work, never_ready, cut_off, asked_to_leave, job_over, job_removed])
def test_without_work_it_ends(machine: VirtualMachine, ill: Callable[[VirtualMachine], None]) -> None:
    ill(machine)
    assert not machine.live(BOUND_S)


@pytest.mark.parametrize(
    "ill",
    [
        finished,
        failed,
        stopped,
        stopped_and_immortal,
        drained,
        drained_and_deaf,
        superseded,
        told_nonsense,
        job_over,
        job_over_and_immortal,
        job_removed,
        cut_off,
        cut_off_and_deaf,
        cut_off_and_immortal,
        asked_to_leave,
        asked_to_leave_and_deaf,
        asked_to_leave_and_cut_off,
    ],
)
def test_when_work_ends_it_ends(training: VirtualMachine, ill: Callable[[VirtualMachine], None]) -> None:
    ill(training)
    assert not training.live(BOUND_S), training.log
    assert training.launchers[0].killed


def test_cut_off_it_checkpoints_all_the_same(training: VirtualMachine) -> None:
    """The store may be back just in time."""
    training.store.around = away = Away()
    training.live(STORE_LOST_AFTER_S + 10)
    assert any("draining: the store has not answered" in line for line in training.log)
    assert training.ended_s is None, "what the workers left is still to be committed"
    away.away = False
    assert not training.live(20)
    assert training.committed > STORE_LOST_AFTER_S


def test_work_that_can_be_done_is_done(training: VirtualMachine) -> None:
    assert training.live(7200)
    assert training.committed >= 7200


def test_what_nobody_can_commit_does_not_keep_it_for_ever(training: VirtualMachine) -> None:
    """The store answers, but takes no checkpoint, and no controller is left to say so."""
    training.store.around = Away(frozenset({"create", "upload"}))
    training.assign("drain")
    assert training.live(BOUND_S), "it tries for a while"
    assert not training.live(BOUND_S)
    assert training.beat.exit is not None
    assert training.beat.exit.message == "drained"


@pytest.mark.parametrize("committed_before", [True, False])
def test_a_last_checkpoint_of_a_step_that_was_written_before_is_no_silent_success(
    training: VirtualMachine, committed_before: bool
) -> None:
    """What is in the bucket under that step is not the last, and is never changed: the job would have no result."""
    training.stuck = True
    run = training.launchers[0].run
    assert run is not None
    run.checkpoints.append(Checkpoint(run.steps, run.checkpoints))
    if not committed_before:  # but its manifest is there
        training.store.around = Away(frozenset({"replace"}))
    training.live(3)
    run.checkpoints.clear()
    run.checkpoints.append(Checkpoint(run.steps, run.checkpoints, last=True))
    finished(training)
    training.live(30)
    assert training.beat.exit is not None
    assert [training.beat.exit.outcome] == ["failed"]
    assert f"has written step {run.steps} as its last checkpoint after it had" in training.beat.exit.message
    training.store.around = undisturbed
    training.exits_with = None
    training.assign(generation=2, resume=layout.checkpoint_prefix(JOB, training.committed, 1))
    training.live(5)
    again = training.launchers[-1].run
    assert again is not None
    again.checkpoints.append(Checkpoint(run.steps, again.checkpoints, last=True))
    finished(training)
    training.live(10)
    assert training.beat.generation == 2
    assert training.beat.exit is not None
    assert training.beat.exit.outcome == "finished"
    head = load_head(training.bucket, JOB)
    assert head is not None
    assert (head.value.step, head.value.final) == (run.steps, True)


def ends_with_last_checkpoint(machine: VirtualMachine) -> int:
    """As elastic's own trainer finishes; returns the step."""
    run = machine.launchers[-1].run
    assert run is not None
    machine.stuck = True
    run.checkpoints.append(Checkpoint(run.steps, run.checkpoints, last=True))
    finished(machine)
    return run.steps


def altered(operation: Operation, _key: str, call: Callable[[], object]) -> object:
    if operation == "create":
        raise Altered("state.bin has been altered since it was written")
    return call()


@pytest.mark.parametrize("is_lost", [True, False])
def test_without_its_last_checkpoint_the_run_has_not_finished(training: VirtualMachine, is_lost: bool) -> None:
    """The next generation makes the steps since the last that was committed again, and has the result."""
    if is_lost:
        training.store.around = altered
        ends_with_last_checkpoint(training)
        message = r"its last checkpoint was lost: step \d+ is lost: state.bin has been altered since it was written"
    else:  # it cannot have been written as it should
        finished(training)
        message = "the trainer ended with 0, and no checkpoint with its result was committed"
    training.live(20)
    assert training.beat.exit is not None
    assert (training.beat.state, training.beat.exit.outcome, training.beat.exit.code) == ("stopped", "failed", 1)
    assert re.fullmatch(message, training.beat.exit.message)
    training.store.around, training.exits_with, training.stuck = undisturbed, None, False
    training.assign(generation=2, resume=layout.checkpoint_prefix(JOB, training.committed, 1))
    training.live(20)
    step = ends_with_last_checkpoint(training)
    training.live(20)
    assert training.beat.exit is not None
    assert (training.beat.generation, training.beat.exit.outcome) == (2, "finished")
    head = load_head(training.bucket, JOB)
    assert head is not None
    assert (head.value.step, head.value.final) == (step, True)


def test_who_was_asked_to_drain_and_lost_its_last_checkpoint_has_drained(training: VirtualMachine) -> None:
    """As whoever fails then: what drains is resumed anyway."""
    training.deaf = True
    training.assign("drain")
    training.live(1)
    training.store.around = altered
    ends_with_last_checkpoint(training)
    training.live(20)
    assert training.beat.exit is not None
    assert training.beat.exit.outcome == "drained"
    assert training.beat.exit.message.startswith("its last checkpoint was lost: ")


@pytest.mark.parametrize(("is_lost", "outcome"), [("the last", "failed"), ("an earlier one", "finished")])
def test_a_program_that_ends_well_has_finished_unless_its_last_checkpoint_was_lost(
    machine: VirtualMachine, is_lost: str, outcome: str
) -> None:
    machine.assign(program=AssignedProgram(command=("train",), working_dir="/", threads=1))
    machine.live(100)
    run = machine.launchers[-1].run
    assert run is not None and machine.committed == 60
    machine.stuck = True
    machine.store.around = altered
    run.checkpoints.append(Checkpoint(run.steps, run.checkpoints))
    machine.live(10)
    if is_lost == "an earlier one":
        machine.store.around = undisturbed
        run.checkpoints.append(Checkpoint(run.steps + 1, run.checkpoints))
        machine.live(10)
    finished(machine)
    machine.live(20)
    assert machine.beat.exit is not None
    assert machine.beat.exit.outcome == outcome


def test_another_node_than_the_first_has_finished_without_checkpoints(machine: VirtualMachine) -> None:
    machine.keeps_to_itself = True
    machine.assign(node_rank=1, nodes=2)
    machine.live(20)
    finished(machine)
    machine.live(20)
    assert machine.beat.exit is not None
    assert machine.beat.exit.outcome == "finished"


def test_checkpoints_that_the_disk_does_not_let_go_are_committed_once(
    training: VirtualMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can only be read any more; what lies there is done with, and new ones are committed as ever."""
    monkeypatch.setattr(Checkpoint, "remove", lambda _: None)
    written: Counter[str] = Counter()
    asked = 0

    def count(operation: Operation, key: str, call: Callable[[], object]) -> object:
        nonlocal asked
        asked += 1
        assert asked < 2000, "it stands still in a frenzy"
        written.update([operation] if operation == "replace" and key == layout.head_key(JOB) else [])
        return call()

    training.store.around = count
    training.live(300)
    assert (training.committed, written["replace"]) == (360, 5)
    training.assign("drain")
    training.live(10)
    assert training.beat.exit is not None
    assert (training.beat.exit.outcome, training.committed) == ("drained", training.beat.exit.step)


def test_a_run_whose_last_checkpoint_is_committed_has_finished_whatever_comes_after(training: VirtualMachine) -> None:
    """The next generation must not make 'drained' of it while old ones are being removed."""
    run = training.launchers[0].run
    assert run is not None

    def supersedes(operation: Operation, _key: str, call: Callable[[], object]) -> object:
        done = call()
        if operation == "replace":
            seal(training.bucket, JOB, 2, 2, random_nonce)
        return done

    training.store.around = Away()
    training.stuck = True
    run.checkpoints.append(Checkpoint(run.steps, run.checkpoints, last=True))
    finished(training)
    training.live(3)
    assert any("could not be committed" in line for line in training.log), "its workers have ended before"
    training.store.around = supersedes
    training.live(20)
    assert any("a newer generation has sealed the head" in line for line in training.log)
    assert training.beat.exit is not None
    assert training.beat.exit.outcome == "finished"
    head = load_head(training.bucket, JOB)
    assert head is not None
    assert (head.value.generation, head.value.step, head.value.final) == (2, run.steps, True)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_store_that_lets_every_turn_wait_does_not_keep_it_from_draining(
    training: VirtualMachine, at_once: bool
) -> None:
    """The requests of its turns fail after 20 s each; those of work in the background would take much longer."""
    away = Away()

    def slow(operation: Operation, key: str, call: Callable[[], object]) -> object:
        training.now_s += 20
        return away(operation, key, call)

    training.prompt_store.around, training.store.around = slow, away
    if not at_once:
        training.live(200)
    began_s = training.now_s
    training.agent.leave("SIGTERM")
    training.live(1)
    assert training.launchers[0].drain_at_s is not None
    assert training.launchers[0].drain_at_s <= began_s + 25, "after one request at most"
    assert not training.live(BOUND_S)
    assert training.ended_s is not None
    assert training.ended_s - began_s <= LEAVE_WITHIN_S + 120


def test_its_turns_ask_only_the_store_that_does_not_let_them_wait(training: VirtualMachine) -> None:
    """What takes its time is in the background."""
    asked: list[str] = []
    turning = prompt = False

    def around(operation: Operation, key: str, call: Callable[[], object]) -> object:
        if turning and not prompt:
            asked.append(f"{operation} {key}")
        return call()

    def prompt_around(operation: Operation, key: str, call: Callable[[], object]) -> object:
        nonlocal prompt
        prompt = True
        try:
            return call()
        finally:
            prompt = False

    turn = training.agent.turn

    def watched() -> float | None:
        nonlocal turning
        turning = True
        try:
            return turn()
        finally:
            turning = False

    training.store.around, training.prompt_store.around = around, prompt_around
    training.agent.turn = watched  # type: ignore[method-assign]
    training.live(100)
    training.agent.leave("SIGTERM")
    assert not training.live(BOUND_S)
    assert asked == []


def test_its_last_word_is_said_again_if_it_was_not_heard(training: VirtualMachine) -> None:
    lost = 0

    def loses(operation: Operation, key: str, call: Callable[[], object]) -> object:
        nonlocal lost
        if operation == "put" and lost < 2 and any(line.startswith("leaving") for line in training.log):
            lost += 1
            raise StoreUnreachable("just now")
        return call()

    training.prompt_store.around = loses
    training.agent.leave("SIGTERM")
    assert not training.live(60)
    assert (lost, training.beat.state) == (2, "leaving")
