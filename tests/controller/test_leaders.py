"""Leaders come and go; the generation that trains does not notice."""

from collections.abc import Callable

import pytest

from orchestrator.controller.decide import Deposed, decide
from orchestrator.controller.effects import Assign, Launch, Seal, Terminate
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from tests.controller.builders import SITUATIONS, Scene, paused, resizing, training
from tests.controller.test_wishes import finish

situations = pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)


def test_a_new_leader_seals_and_assigns_anew_and_the_generation_goes_on() -> None:
    scene = training().commit(40)
    before = scene.generation
    scene.epoch, effects = 2, len(scene.effects)
    scene.step()
    assert scene.effects[effects:] == [Seal("digits", 2, 1)]
    scene.settle()
    assert [type(effect) for effect in scene.effects[effects:]] == [Seal, Assign]
    assert (scene.assignment().epoch, scene.assignment().generation, scene.assignment().action) == (2, 1, "run")
    assert scene.generation == before
    assert scene.record.epoch == 2
    assert scene.kinds()[-1] is EventKind.LEADER_CHANGED
    assert scene.head is not None
    assert scene.head.step == 40


@situations
def test_a_new_leader_does_what_the_old_one_would_have_done(situation: Callable[[], Scene]) -> None:
    """It disturbs nothing that is there: it launches and ends only what is missing or retired."""
    scene = situation()
    alive, effects = scene.alive(), len(scene.effects)
    scene.epoch += 1
    scene.settle()
    assert scene.alive() >= alive
    assert not [effect for effect in scene.effects[effects:] if isinstance(effect, Terminate)]
    launched = [e.request.instance for e in scene.effects[effects:] if isinstance(e, Launch)]
    assert not set(launched) & alive
    if scene.record.wanted == "pause":
        scene.ask("resume")
    assert finish(scene).is_in(JobPhase.SUCCEEDED)


def test_nothing_is_assigned_before_the_new_seal() -> None:
    scene = training()
    scene.epoch = 2
    decision = scene.decide()
    assert not [effect for effect in decision.effects if isinstance(effect, Assign)]


@situations
def test_an_older_leader_must_stop(situation: Callable[[], Scene]) -> None:
    scene = situation().settle()
    scene.epoch = 2
    scene.settle()
    scene.epoch = 1
    with pytest.raises(Deposed, match="epoch 2"):
        decide(scene.observation(), scene.now)


def test_a_drain_is_asked_for_again_by_the_new_leader() -> None:
    scene = training().ask("pause").settle()
    scene.epoch = 2
    scene.settle()
    assert (scene.assignment().action, scene.assignment().epoch) == ("drain", 2)
    scene.commit(40).exit("drained", step=40)
    assert scene.is_in(JobPhase.PAUSED)


def test_a_resize_goes_on_under_the_new_leader() -> None:
    scene = resizing()
    launched = scene.launched()
    scene.epoch = 2
    scene.settle().come_up().commit(40).exit("drained", step=40)
    assert (scene.generation.number, scene.workers) == (2, 2)
    assert scene.launched() == launched


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "cancelled"])
def test_a_job_that_is_over_is_not_touched_by_new_leaders(finished: bool) -> None:
    scene = finish(training()) if finished else training().ask("cancel").settle()
    record, effects = scene.record, len(scene.effects)
    for epoch in (2, 3):
        scene.epoch = epoch
        scene.pass_time(3600).settle()
    assert scene.record is record
    assert len(scene.effects) == effects


def test_what_a_dead_leader_left_to_be_ended_is_ended_by_the_next() -> None:
    scene = training()
    instance = scene.generation.instances[0]
    scene.lingering.add(instance)
    scene.ask("cancel").step()
    scene.epoch = 2
    scene.lingering.clear()
    scene.settle()
    assert scene.is_in(JobPhase.CANCELLED)
    assert scene.alive() == set()


def test_a_paused_job_is_taken_over_once_and_then_at_rest() -> None:
    scene = paused()
    scene.epoch = 2
    scene.settle()
    record = scene.record
    assert record.epoch == 2
    scene.pass_time(3600).settle()
    assert scene.record is record
    scene.ask("resume").settle().come_up()
    assert scene.is_in(JobPhase.RUNNING, GenerationPhase.STARTING)
