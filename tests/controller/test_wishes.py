"""What a person asks: honoured once, in every situation, and told either way."""

from collections.abc import Callable
from typing import Literal

import pytest

from orchestrator.controller.effects import DropRequest, Terminate
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from tests.controller.builders import SITUATIONS, Scene, draining, paused, resizing, training, waiting_after_failure
from tests.support.specs import job_spec

Situation = Callable[[], Scene]
Kind = Literal["cancel", "pause", "resume", "resize"]
situations = pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)


def finish(scene: Scene, step: int = 100) -> Scene:
    """Bring a job to its end from wherever it stands."""
    for _ in range(10):
        scene.pass_time(60).settle().obey()
        if scene.record.phase.over:
            return scene
        if scene.record.upcoming is not None:
            scene.come_up()
        if scene.record.generation is None:
            continue
        if scene.generation.phase is GenerationPhase.DRAINING:
            scene.commit(step - 1).exit("drained", step=step - 1)
        elif scene.generation.phase in (GenerationPhase.STARTING, GenerationPhase.TRAINING):
            scene.train(step).commit(step).exit("finished", step=step)
    raise AssertionError(f"it does not end: {scene.record}")


# --- cancel -----------------------------------------------------------------------------------------------------------


@situations
def test_cancel_leaves_nothing_wherever_the_job_stands(situation: Situation) -> None:
    scene = situation().ask("cancel").settle()
    assert scene.is_in(JobPhase.CANCELLED)
    assert scene.alive() == set()
    assert (scene.record.retired, scene.record.uses, scene.record.upcoming) == ((), (), None)
    assert scene.record.reason == "cancelled by ada"
    assert scene.requests == []
    assert set(scene.launched()) <= set(scene.terminated())


def test_a_cancelled_job_says_so_only_when_its_instances_are_gone() -> None:
    scene = training()
    instance = scene.generation.instances[0]
    scene.lingering.add(instance)
    scene.ask("cancel")
    for _ in range(5):
        scene.step()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.ENDED)
    scene.lingering.clear()
    scene.settle()
    assert scene.is_in(JobPhase.CANCELLED)


@situations
def test_after_cancel_nothing_else_is_granted(situation: Situation) -> None:
    scene = situation().ask("cancel").ask("resume").ask("pause").ask("resize", 2).settle()
    assert scene.is_in(JobPhase.CANCELLED)
    assert scene.kinds().count(EventKind.REQUEST_REFUSED) == 3


# --- pause and resume -------------------------------------------------------------------------------------------------


@situations
def test_pause_ends_at_a_checkpoint_and_costs_nothing_any_more(situation: Situation) -> None:
    scene = situation()
    lost_before = scene.record.lost_steps
    scene.ask("pause").settle()
    if scene.record.generation is not None and scene.generation.phase is GenerationPhase.DRAINING:
        assert scene.assignment().action == "drain"
        assert scene.alive() == set(scene.generation.instances)
        scene.commit(40).exit("drained", step=40)
    assert scene.is_in(JobPhase.PAUSED)
    assert scene.alive() == set()
    assert scene.record.lost_steps == lost_before


@situations
def test_what_was_paused_goes_on_from_its_checkpoint_to_the_end(situation: Situation) -> None:
    scene = situation().ask("pause").settle()
    if scene.record.phase is not JobPhase.PAUSED:
        scene.commit(40).exit("drained", step=40)
    committed = scene.record.committed_step
    scene.ask("resume").settle()
    assert scene.is_in(JobPhase.PENDING)
    scene.come_up()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.STARTING)
    assert scene.generation.resume_step == committed
    assert finish(scene).is_in(JobPhase.SUCCEEDED)


def test_a_paused_job_is_at_rest() -> None:
    scene = paused()
    for _ in range(3):
        scene.pass_time(3600)
        decision = scene.decide()
        assert decision.effects == ()
        assert decision.record is scene.record
    assert scene.record.spend_usd(scene.now) == 0


def test_a_resumed_job_has_a_new_instance_and_lets_the_old_one_be() -> None:
    scene = paused()
    old, effects = scene.generation.instances[0], len(scene.effects)
    scene.ask("resume").settle().come_up().train(41)
    assert old not in scene.generation.instances
    assert not [effect for effect in scene.effects[effects:] if isinstance(effect, Terminate)]


def test_a_resumed_job_has_all_its_chances_again() -> None:
    scene = waiting_after_failure().ask("pause").settle()
    assert scene.record.failures == 2
    scene.ask("resume").settle()
    assert scene.record.failures == 0
    assert scene.record.upcoming is not None, "and does not wait any longer"


def test_a_change_of_mind_before_the_drain_is_over_goes_on_with_the_next_generation() -> None:
    scene = draining().ask("resume").settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.DRAINING)
    scene.commit(40).exit("drained", step=40)
    assert (scene.generation.number, scene.generation.resume_step) == (2, 40)
    assert scene.record.wanted == "run"


def test_who_finishes_while_being_paused_has_finished() -> None:
    scene = draining().commit(100).exit("finished", step=100)
    assert scene.is_in(JobPhase.SUCCEEDED)


def test_who_fails_while_being_paused_is_paused() -> None:
    scene = draining().exit("failed", message="boom")
    assert scene.is_in(JobPhase.PAUSED)


# --- resize -----------------------------------------------------------------------------------------------------------


def test_a_resize_is_made_before_anything_is_broken_and_pins_the_size() -> None:
    scene = training().ask("resize", 2).settle()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert (scene.upcoming.rung, scene.upcoming.cause) == (1, "resize")
    scene.come_up().commit(40).exit("drained", step=40).train(41)
    assert (scene.workers, scene.record.resizes) == (2, 1)
    scene.pass_time(600).train(60, percent=1.0, samples=60)
    assert scene.workers == 2
    assert scene.record.upcoming is None, "a pinned size does not follow the rule"
    scene.ask("resize").settle()
    assert scene.upcoming.rung == 0, "until a person gives it back to the rule"


def test_a_resize_to_the_present_size_only_pins() -> None:
    scene = training().ask("resize", 1).settle()
    scene.train(30, percent=100.0, samples=60)
    assert scene.record.upcoming is None
    assert scene.record.pinned_rung == 0


def test_a_resize_may_leave_the_bounds_of_the_rule() -> None:
    scene = training(job_spec(sizes=(1, 2, 4), scaling={"max": 2})).ask("resize", 4).settle()
    assert scene.upcoming.rung == 2


def test_a_size_that_is_not_on_the_ladder_is_refused() -> None:
    scene = training().ask("resize", 3).settle()
    assert scene.record.pinned_rung is None
    told = scene.last(EventKind.REQUEST_REFUSED).message
    assert told == "resize by ada: no rung of the ladder has 3 workers"


def test_the_size_asked_for_while_paused_is_the_one_resumed_with() -> None:
    scene = paused().ask("resize", 2).settle()
    assert scene.is_in(JobPhase.PAUSED)
    scene.ask("resume").settle().come_up()
    assert scene.workers == 2


def test_a_change_of_mind_while_the_new_size_comes_up_calls_it_off() -> None:
    scene = resizing()
    new = scene.upcoming.instances[0]
    scene.ask("resize", 1).settle()
    assert scene.record.upcoming is None
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert scene.assignment().action == "run"
    assert new not in scene.alive()
    assert "generation 2 is called off" in scene.last(EventKind.RESIZE).message


def test_another_size_while_the_first_instances_come_up_is_started_with() -> None:
    scene = Scene().settle().ask("resize", 2).settle()
    assert scene.upcoming.rung == 1
    scene.come_up()
    assert scene.workers == 2
    assert scene.alive() == set(scene.generation.instances)


def test_pausing_during_a_resize_calls_it_off() -> None:
    scene = resizing()
    new = scene.upcoming.instances[0]
    scene.ask("pause").settle()
    assert new not in scene.alive()
    scene.commit(40).exit("drained", step=40)
    assert scene.is_in(JobPhase.PAUSED)


# --- once, and told ---------------------------------------------------------------------------------------------------


@situations
@pytest.mark.parametrize("kind", ["cancel", "pause", "resume", "resize"])
def test_every_request_is_told_once_and_removed_wherever_the_job_stands(situation: Situation, kind: Kind) -> None:
    scene = situation()
    before = scene.record.last_event
    scene.ask(kind, 2 if kind == "resize" else None)
    request = scene.requests[-1]
    scene.settle()
    told = [event for event in scene.events if event.number > before and event.inputs.get("request") == request.id]
    assert len(told) == 1
    assert told[0].kind in (EventKind.REQUESTED, EventKind.REQUEST_REFUSED)
    assert "ada" in told[0].message
    assert scene.requests == []
    assert DropRequest("digits", request.id) in scene.effects
    assert request.id in scene.settle().record.requests_done  # one that was sent twice may come again, late


def test_a_request_that_could_not_be_removed_yet_is_not_honoured_again() -> None:
    scene = training().ask("resize", 2)
    request = scene.requests[0]
    scene.settle()
    scene.requests.append(request)  # the removal was lost with a controller
    before = scene.record.last_event
    scene.record = scene.record.model_copy(update={"requests_done": (request.id,)})
    scene.settle()
    assert scene.record.last_event == before
    assert scene.requests == []


TWO_AT_ONCE: dict[str, tuple[list[tuple[Kind, int | None]], str, int | None]] = {
    "pause, resume": ([("pause", None), ("resume", None)], "run", None),
    "resize, resize": ([("resize", 2), ("resize", 1)], "run", 0),
    "resize, automatic": ([("resize", 2), ("resize", None)], "run", None),
    "pause, cancel": ([("pause", None), ("cancel", None)], "cancel", None),
    "cancel, pause": ([("cancel", None), ("pause", None)], "cancel", None),
    "pause, resize": ([("pause", None), ("resize", 2)], "pause", 1),
}


@pytest.mark.parametrize(("asked", "wanted", "pinned"), TWO_AT_ONCE.values(), ids=TWO_AT_ONCE)
def test_of_two_at_once_the_later_counts(asked: list[tuple[Kind, int | None]], wanted: str, pinned: int | None) -> None:
    scene = training()
    for kind, workers in asked:
        scene.ask(kind, workers)
    scene.decide()
    assert (scene.record.wanted, scene.record.pinned_rung) == (wanted, pinned)
    assert len(scene.record.requests_done) == 2
    scene.settle()
    assert scene.requests == []


REFUSED: dict[str, tuple[Situation, Kind, str]] = {
    "pause twice": (paused, "pause", "the job is paused or being paused"),
    "pause while pausing": (draining, "pause", "the job is paused or being paused"),
    "resume what runs": (training, "resume", "the job is not paused"),
    "anything when over": (lambda: finish(training()), "resize", "the job has succeeded already"),
    "cancel when over": (lambda: finish(training()), "cancel", "the job has succeeded already"),
}


@pytest.mark.parametrize(("situation", "kind", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_granted_is_refused_with_a_reason(situation: Situation, kind: Kind, why: str) -> None:
    scene = situation()
    phase = scene.phase
    scene.ask(kind, 2 if kind == "resize" else None).settle()
    assert scene.last(EventKind.REQUEST_REFUSED).message == f"{kind} by ada: {why}"
    assert scene.phase is phase
    assert scene.requests == []


@situations
def test_every_situation_can_still_end_well(situation: Situation) -> None:
    scene = situation()
    if scene.record.wanted == "pause":
        scene.ask("resume")
    assert finish(scene).is_in(JobPhase.SUCCEEDED)
    assert scene.alive() == set()
