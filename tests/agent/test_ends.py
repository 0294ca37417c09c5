"""An agent that has nothing to do, or must not go on, ends by itself: within ten minutes, whatever hangs."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agent.run_directory import BAD_INPUT, HOPELESS
from orchestrator.agent.supervisor import STORE_LOST_AFTER_S
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record
from orchestrator.jobs.head import load_head, seal
from orchestrator.jobs.instances import LEAVE_WITHIN_S, TrainerExit
from orchestrator.jobs.phases import JobPhase
from orchestrator.store import document
from orchestrator.store.document import random_nonce
from orchestrator.store.protocol import StoreUnreachable
from tests.agent.virtual_machine import CHECKPOINT_EVERY_S, JOB, Checkpoint, VirtualMachine
from tests.support.interposed import Away, Operation, undisturbed

BOUND_S = 600.0


@pytest.fixture
def machine(tmp_path: Path) -> VirtualMachine:
    return VirtualMachine(tmp_path)


@pytest.fixture
def training(machine: VirtualMachine) -> VirtualMachine:
    """One that has trained for a while and committed."""
    machine.assign()
    assert machine.live(100)
    assert machine.committed == 60
    return machine


# --- no work ----------------------------------------------------------------------------------------------------------


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


# --- the allowance ----------------------------------------------------------------------------------------------------

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
