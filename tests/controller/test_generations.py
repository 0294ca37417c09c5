"""A generation from its launch to its end, and what follows when it ends badly."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.controller.decide import MAX_LOSSES
from orchestrator.controller.effects import Assign, Launch, Seal
from orchestrator.controller.facts import DRAIN_TIMEOUT_S
from orchestrator.controller.observation import LaunchFailure
from orchestrator.controller.recovery import (
    MAX_BACKOFF_S,
    SILENCE_IS_LOSS_AFTER_S,
    UNRESPONSIVE_AFTER_S,
    backoff_s,
    is_due,
)
from orchestrator.fleets.protocol import LaunchRequest
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.instances import TrainerProgress
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from tests.controller.builders import Scene, provisioning, starting, training, waiting_after_failure
from tests.support.specs import job_spec

STALL_S = 900.0
"""What limits.stall is when nothing is said."""


def test_the_first_instances_are_launched_on_the_smallest_rung() -> None:
    scene = Scene(job_spec(sizes=(1, 2, 4)))
    scene.step()
    assert scene.record.generation is None
    assert (scene.upcoming.number, scene.upcoming.rung, scene.upcoming.cause) == (1, 0, "start")
    wanted = LaunchRequest("digits-g1-n0-a0", "digits", 1, "local", workers=1, cores_per_worker=1)
    assert scene.effects == [Launch(wanted)]
    assert scene.is_in(JobPhase.PENDING)


def test_the_smallest_rung_within_bounds_is_the_first() -> None:
    assert Scene(job_spec(sizes=(1, 2, 4), scaling={"min": 2})).settle().upcoming.rung == 1


def test_the_intent_is_recorded_before_anything_is_launched() -> None:
    """What a decision launches is in the very record that is written before its effects are carried out."""
    scene = Scene()
    decision = scene.decide()
    launched = [effect.request.instance for effect in decision.effects if isinstance(effect, Launch)]
    assert launched == list(scene.upcoming.instances)


def test_nothing_starts_before_every_instance_is_ready() -> None:
    scene = provisioning(job_spec(instances=2))
    first, second = scene.upcoming.instances
    scene.come_up(first)
    assert scene.record.generation is None
    scene.says(second, "restoring").settle()
    assert scene.record.generation is None
    scene.says(second, silent_s=UNRESPONSIVE_AFTER_S).settle()
    assert scene.record.generation is None
    scene.says(second).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.STARTING)
    assert scene.is_in(JobPhase.RUNNING)


def test_the_head_is_sealed_and_the_seal_recorded_before_anyone_is_assigned() -> None:
    scene = provisioning()
    scene.says("digits-g1-n0-a0").step()
    assert scene.effects[-1] == Seal("digits", 1, 1)
    assert not scene.generation.sealed
    decision = scene.decide()
    assert scene.generation.sealed
    assert [type(effect) for effect in decision.effects] == [Assign]


def test_an_assignment_says_everything_that_an_agent_needs() -> None:
    scene = starting(job_spec(instances=2))
    first, second = (scene.assignment(instance) for instance in scene.generation.instances)
    assert (first.node_rank, second.node_rank, first.nodes, first.workers) == (0, 1, 2, 1)
    assert (first.action, first.epoch, first.generation, first.resume) == ("run", 1, 1, None)
    assert first.master_port == second.master_port == 29_500
    assert first.training == scene.spec.trainer_config
    assert (first.checkpoint_every_s, first.checkpoints_kept) == (10.0, 3)


def test_all_nodes_are_sent_to_the_port_of_the_first_even_if_it_has_another_by_now() -> None:
    """The controller died between two assignments; meanwhile the first node's free port has changed."""
    scene = starting(job_spec(instances=2))
    first, second = scene.generation.instances
    del scene.views[second]
    scene.says(second).says(first, port=31_000).settle()
    assert scene.assignment(first).master_port == scene.assignment(second).master_port == 29_500


def test_the_first_step_makes_it_train() -> None:
    scene = starting()
    scene.pass_time(4).train(7)
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    told = scene.last(EventKind.TRAINING)
    assert told.inputs == {"step": 7, "after_s": 4.0}


def test_a_finished_trainer_ends_the_job_and_its_instances() -> None:
    scene = training().commit(100).exit("finished", step=100)
    assert (scene.phase, scene.generation.outcome) == (JobPhase.SUCCEEDED, "finished")
    assert scene.record.ended_at == scene.now
    assert scene.alive() == set()
    assert scene.kinds()[-2:] == [EventKind.GENERATION_ENDED, EventKind.SUCCEEDED]
    assert (scene.record.retired, scene.record.uses) == ((), ())


def test_all_nodes_must_have_finished() -> None:
    scene = training(job_spec(instances=2))
    first, second = scene.generation.instances
    scene.exit("finished", instances=[first])
    assert scene.is_in(JobPhase.RUNNING)
    scene.exit("finished", instances=[second])
    assert scene.is_in(JobPhase.SUCCEEDED)


def test_an_instance_that_has_told_its_end_may_go() -> None:
    """Its exit was read before it went: that is not a loss."""
    scene = training(job_spec(instances=2))
    first, second = scene.generation.instances
    scene.exit("finished", instances=[first]).lose(first)
    assert scene.is_in(JobPhase.RUNNING)
    scene.exit("finished", instances=[second])
    assert scene.is_in(JobPhase.SUCCEEDED)


# --- failure ----------------------------------------------------------------------------------------------------------


def test_after_a_failure_the_next_generation_goes_on_from_the_last_commit_on_the_same_instance() -> None:
    scene = training().commit(40)
    instance = scene.generation.instances[0]
    scene.train(55).exit("failed", message="rank 0 was killed by SIGKILL")
    assert scene.generation.number == 2
    assert scene.generation.cause == "failure"
    assert scene.generation.instances == (instance,)
    assert scene.assignment().generation == 2
    assert scene.assignment().resume == "jobs/digits/checkpoints/000000000040-g000001/"
    assert scene.launched() == [instance]
    assert scene.record.lost_steps == 15
    assert "SIGKILL" in scene.last(EventKind.WORKER_FAILED).message


def test_steps_are_lost_once_even_if_the_next_generation_never_takes_one() -> None:
    scene = training().commit(40).train(55).exit("failed")
    assert scene.record.lost_steps == 15
    scene.exit("failed").pass_time(60).settle()
    assert scene.generation.number == 3
    assert scene.record.lost_steps == 15


def test_what_the_trainer_refuses_is_not_tried_again() -> None:
    scene = training().commit(40).exit("refused", message="rank 0 exited with 4: the loss is no number")
    assert scene.phase is JobPhase.FAILED
    assert scene.record.reason == "trying again would not help: rank 0 exited with 4: the loss is no number"
    assert (scene.generation.number, scene.generation.outcome, scene.record.failures) == (1, "refused", 1)
    assert scene.kinds()[-2:] == [EventKind.WORKER_FAILED, EventKind.FAILED]
    assert scene.alive() == set()


def test_bad_input_before_the_first_step_is_final() -> None:
    scene = starting().exit("refused", message="no such directory", code=2)
    assert scene.phase is JobPhase.FAILED


def test_an_order_that_has_trained_is_not_bad_input_whichever_instance_says_so() -> None:
    scene = training(job_spec(instances=2))
    first, second = scene.generation.instances
    scene.says(first, "running", generation=1, progress=TrainerProgress(step=3))
    scene.exit("refused", message="no such directory", instances=[second], code=2).obey()
    assert scene.phase is JobPhase.RUNNING
    assert scene.record.failures == 1


def test_a_refusal_counts_more_than_the_failure_of_those_who_waited_for_it() -> None:
    scene = training(job_spec(instances=2))
    first, second = scene.generation.instances
    scene.says(second, "running", generation=1)
    scene.exit("refused", message="no rights", instances=[second])
    assert scene.phase is JobPhase.FAILED
    assert first not in scene.alive()


def test_the_first_failure_is_tried_again_at_once_and_later_ones_ever_later() -> None:
    assert backoff_s(0) == backoff_s(1) == 0
    waits = [backoff_s(n) for n in range(1, 12)]
    assert waits == sorted(waits)
    assert waits[-1] == 60


def test_while_it_waits_nothing_is_launched() -> None:
    scene = waiting_after_failure()
    before = list(scene.effects)
    scene.pass_time(backoff_s(2) - 0.1).settle()
    assert scene.effects == before
    scene.pass_time(0.1).settle()
    assert scene.generation.number == 3


@pytest.mark.parametrize("max_failures", [0, 1, 3])
def test_so_many_failures_in_a_row_may_be_and_no_more(max_failures: int) -> None:
    scene = training(job_spec(limits={"max_failures": max_failures}))
    for _ in range(max_failures):
        scene.exit("failed", message="boom").pass_time(60).settle()
        assert scene.is_in(JobPhase.RUNNING)
    scene.exit("failed", message="out of memory")
    assert scene.is_in(JobPhase.FAILED)
    assert "out of memory" in scene.record.reason
    assert scene.alive() == set()
    assert scene.generation.number == max_failures + 1


def test_a_new_checkpoint_starts_the_count_anew() -> None:
    scene = training(job_spec(limits={"max_failures": 1}))
    for step in range(10, 60, 10):
        scene.commit(step).exit("failed").pass_time(60).settle()
        assert scene.record.failures == 1
    assert (scene.phase, scene.generation.number) == (JobPhase.RUNNING, 6)


def test_a_generation_that_ended_before_its_seal_was_seen_has_made_no_progress() -> None:
    """Where it resumes is not known yet; what earlier ones committed is not its progress."""
    scene = training(job_spec(limits={"max_failures": 9})).commit(40).exit("failed").exit("failed").pass_time(60)
    scene.decide()
    scene.decide()  # generation 3 is to start; its seal is not carried out
    assert (scene.generation.number, scene.generation.sealed) == (3, False)
    scene.exit("failed", message="boom")
    assert scene.record.failures == 3


def test_the_last_word_of_one_that_failed_beats_the_loss_of_another() -> None:
    scene = training(job_spec(instances=2, limits={"max_failures": 0}))
    first, second = scene.generation.instances
    scene.says(first, "stopped", generation=1, exit={"outcome": "failed", "code": 1, "message": "boom"})
    scene.lose(second)
    assert scene.is_in(JobPhase.FAILED)


# --- loss and preemption ----------------------------------------------------------------------------------------------


def test_a_lost_instance_is_replaced_and_the_others_are_kept() -> None:
    scene = training(job_spec(instances=2)).commit(40)
    first, second = scene.generation.instances
    scene.says(second, "stopped")  # its workers ended with their peer; it has not said so for this generation
    scene.lose(first)
    assert scene.last(EventKind.INSTANCE_LOST).message == f"generation 1: {first} is gone"
    assert (scene.upcoming.cause, scene.upcoming.instances) == ("loss", (second, "digits-g2-n1-a0"))
    scene.come_up()
    assert scene.generation.number == 2
    assert scene.alive() == set(scene.generation.instances)


def test_who_still_works_for_a_generation_that_has_ended_is_told_to_stop() -> None:
    """It would wait for its lost peer at the rendezvous, and be kept waiting for itself by the next generation."""
    scene = training(job_spec(instances=2)).commit(40)
    first, second = scene.generation.instances
    scene.says(second, "ready", generation=0, progress=None)  # it has not read its assignment yet
    scene.lose(first)
    assert scene.assignment(second).action == "stop"
    assert second in scene.upcoming.instances
    scene.says(second, "restoring", generation=1).come_up()
    assert scene.generation.number == 1
    scene.obey()
    assert (scene.generation.number, scene.assignment(second).action) == (2, "run")


def test_nobody_who_has_ended_is_told_to_stop() -> None:
    for scene in (training().commit(40).exit("failed"), training().commit(100).exit("finished")):
        assert not [e for e in scene.effects if isinstance(e, Assign) and e.assignment.action == "stop"]


def test_workers_that_were_lost_with_what_they_ran_in_have_not_failed_and_begin_again_where_they_were() -> None:
    """As when a Docker engine is started again under their containers."""
    scene = training(job_spec(limits={"max_failures": 0})).commit(40)
    (instance,) = scene.generation.instances
    scene.exit("lost")
    assert (scene.record.failures, scene.record.losses) == (0, 1)
    assert scene.phase is not JobPhase.FAILED
    assert (scene.generation.number, scene.generation.cause, scene.generation.resume_step) == (2, "loss", 40)
    assert scene.generation.instances == (instance,), "the instance is as good as before"


def test_the_image_that_workers_run_in_is_kept_with_their_generation() -> None:
    scene = training(job_spec())
    assert scene.generation.image == ""
    (instance,) = scene.generation.instances
    view = scene.views[instance]
    assert view.heartbeat is not None
    beat = view.heartbeat.model_copy(update={"image": "trainer@sha256:1"})
    scene.views[instance] = replace(view, heartbeat=beat)
    scene.settle()
    assert scene.generation.image == "trainer@sha256:1"


def test_losses_are_no_failures() -> None:
    scene = training(job_spec(limits={"max_failures": 0}))
    for _ in range(4):
        scene.lose().pass_time(60).settle().come_up().train(1)
    assert (scene.phase, scene.generation.number) == (JobPhase.RUNNING, 5)
    assert (scene.record.failures, scene.record.losses) == (0, 4)


def test_an_instance_once_seen_and_now_unknown_is_lost_but_one_never_seen_is_not() -> None:
    scene = training()
    [instance] = scene.generation.instances
    scene.views[instance] = replace(scene.view(instance), state=None, vanished=False)
    scene.settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)  # the fleet may tell how it was a while ago
    scene.views[instance] = replace(scene.view(instance), vanished=True)
    scene.settle()
    assert scene.generation.outcome == "lost"
    assert scene.upcoming.number == 2


def test_silence_alone_ends_nothing_and_is_told_once() -> None:
    scene = training()
    instance = scene.generation.instances[0]
    for silent_s in (31.0, 32.0, 120.0, SILENCE_IS_LOSS_AFTER_S):
        scene.says(instance, "running", silent_s=silent_s).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert scene.kinds().count(EventKind.UNRESPONSIVE) == 1
    scene.says(instance, "running", silent_s=SILENCE_IS_LOSS_AFTER_S + 1).settle()
    assert scene.generation.outcome == "lost"
    assert "has said nothing for 301 s" in scene.last(EventKind.INSTANCE_LOST).message


def test_who_speaks_again_is_no_longer_called_silent() -> None:
    scene = training()
    instance = scene.generation.instances[0]
    scene.says(instance, "running", silent_s=31.0).settle()
    assert "silent" in scene.record.reason
    scene.says(instance, "running").settle()
    assert "silent" not in scene.record.reason
    scene.says(instance, "running", silent_s=31.0).settle()
    assert scene.kinds().count(EventKind.UNRESPONSIVE) == 2


def test_workers_that_drained_by_themselves_were_preempted_and_go_on_elsewhere_at_once() -> None:
    scene = training().commit(40)
    instance = scene.generation.instances[0]
    scene.says(instance, "leaving", generation=1, exit={"outcome": "drained", "code": 75, "message": "SIGTERM"})
    scene.settle()
    assert scene.upcoming.cause == "preemption"
    assert instance not in scene.upcoming.instances
    scene.lose(instance).come_up()
    assert scene.generation.resume_step == 40
    assert (scene.record.failures, scene.record.losses) == (0, 0)


def test_a_drain_that_takes_for_ever_is_a_loss() -> None:
    scene = training(job_spec()).ask("pause").settle()
    [instance] = scene.generation.instances
    scene.pass_time(DRAIN_TIMEOUT_S).says(instance, "draining", stalled_s=DRAIN_TIMEOUT_S).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING)
    scene.pass_time(3600).says(instance, "draining", stalled_s=10.0).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING), "a clock that jumps ends nothing"
    scene.says(instance, "draining", stalled_s=DRAIN_TIMEOUT_S + 1).settle()
    assert (scene.generation.outcome, scene.phase) == ("lost", JobPhase.PAUSED)
    assert scene.alive() == set()


def test_workers_that_come_no_further_are_ended_and_started_again() -> None:
    scene = training(job_spec())
    [instance] = scene.generation.instances
    scene.says(instance, "running", stalled_s=STALL_S).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    scene.says(instance, "running", stalled_s=STALL_S + 1).settle()
    assert "no new step" in scene.last(EventKind.WORKER_FAILED).message
    assert scene.record.failures == 1


def test_workers_that_stand_still_say_where_before_they_are_ended_and_others_need_not() -> None:
    scene = training(job_spec(limits={"stall": 60.0}))
    [instance] = scene.generation.instances
    scene.says(instance, "running", stalled_s=61.0).settle()
    assert (scene.assignment(instance).action, scene.assignment(instance).dump_stacks) == ("stop", True)
    scene = training(job_spec(instances=2)).exit("failed", message="boom", instances=["digits-g1-n0-a0"])
    survivor = scene.assignment("digits-g1-n1-a0")
    assert (survivor.action, survivor.dump_stacks) == ("stop", False)


@pytest.mark.parametrize(("failures", "said"), [(3, "3 failures"), (1, "1 failure")])
def test_workers_that_stand_still_again_and_again_fail_with_the_reason(failures: int, said: str) -> None:
    scene = training(job_spec(limits={"stall": 60.0, "max_failures": failures - 1}))
    for _ in range(failures):
        for instance in scene.generation.instances:
            scene.says(instance, "running", stalled_s=61.0)
        scene.settle().pass_time(60).settle()
        if not scene.record.phase.over:
            scene.come_up().train(1)
    assert scene.is_in(JobPhase.FAILED)
    assert scene.record.reason == f"{said} in a row without progress; the last: no new step for 61 s"
    assert scene.alive() == set()


def test_what_hindered_workers_that_came_no_further_is_told() -> None:
    scene = training(job_spec())
    [instance] = scene.generation.instances
    told: dict[str, Any] = {
        "progress": None,
        "activity": "bringing 3 of 9 files",
        "complaint": "the images cannot be fetched yet",
    }
    scene.says(instance, "restoring", stalled_s=STALL_S + 1, **told).settle()
    assert scene.last(EventKind.WORKER_FAILED).message.endswith(
        "no new step for 901 s: the images cannot be fetched yet"
    )


def test_a_time_that_another_clock_has_set_far_ahead_is_not_waited_for() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert is_due(None, now)
    assert is_due(now, now)
    assert not is_due(now + timedelta(seconds=MAX_BACKOFF_S), now)
    assert is_due(now + timedelta(hours=1), now)


def test_instances_that_are_lost_again_and_again_without_progress_end_the_job() -> None:
    scene = training(job_spec())
    scene.record = scene.record.model_copy(update={"losses": MAX_LOSSES})
    scene.lose(*scene.generation.instances).settle()
    assert scene.phase is JobPhase.FAILED
    assert "losses in a row" in scene.record.reason


# --- instances that do not come up ------------------------------------------------------------------------------------


def test_without_capacity_it_waits_says_so_once_and_asks_again() -> None:
    scene = Scene()
    scene.refusals[1] = LaunchFailure("2 of 2 cores are in use", kind="capacity")
    scene.settle()
    for _ in range(3):
        scene.pass_time(5).settle()
    assert scene.is_in(JobPhase.PENDING)
    assert scene.launched() == [f"digits-g1-n0-a{attempt}" for attempt in range(4)]
    assert scene.kinds().count(EventKind.NO_CAPACITY) == 1
    assert scene.record.reason == "waiting for capacity: 2 of 2 cores are in use"
    scene.refusals.clear()
    scene.pass_time(5).settle().come_up()
    assert scene.is_in(JobPhase.RUNNING)


def test_what_can_never_be_had_fails_the_job() -> None:
    scene = Scene()
    scene.refusals[1] = LaunchFailure("4 cores are wanted and this machine has 2", kind="fatal")
    scene.settle()
    assert scene.is_in(JobPhase.FAILED)
    assert "this machine has 2" in scene.record.reason


def test_an_instance_that_does_not_come_up_is_tried_again_under_another_name() -> None:
    scene = provisioning()
    scene.lose("digits-g1-n0-a0")
    assert scene.upcoming.instances == ("digits-g1-n0-a1",)
    assert "digits-g1-n0-a0" in scene.terminated()
    scene.come_up()
    assert scene.generation.number == 1


def test_after_three_tries_it_is_a_failure() -> None:
    scene = provisioning(job_spec(limits={"max_failures": 1}))
    for generation in (1, 2):
        for attempt in range(3):
            scene.lose(f"digits-g{generation}-n0-a{attempt}")
    assert scene.is_in(JobPhase.FAILED)
    assert scene.alive() == set()
    assert "did not come up after 3 tries" in scene.record.reason
