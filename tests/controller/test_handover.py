"""Between two generations training stands still: whatever can wait, waits until the next workers have their orders."""

from orchestrator.controller.effects import Assign, Effect, Terminate
from tests.controller.builders import Scene, training
from tests.support.specs import job_spec


def handed_over(scene: Scene, to: str) -> list[Effect]:
    """The effects since the last one that came before the new instance was ready."""
    before = len(scene.effects)
    scene.come_up(to)
    scene.exit("drained")
    return scene.effects[before:]


def test_an_instance_that_has_stopped_is_ended_once_the_next_workers_have_their_orders() -> None:
    scene = training(job_spec(sizes=(1, 2)))
    [old] = scene.generation.instances
    scene.ask("resize", workers=2).settle()
    [new] = scene.upcoming.instances
    effects = handed_over(scene, new)
    ordered = next(i for i, e in enumerate(effects) if isinstance(e, Assign) and e.instance == new)
    ended = effects.index(Terminate(old))
    assert ordered < ended
    assert old not in scene.alive()


def test_an_instance_that_may_still_work_is_ended_before_the_next_workers_start() -> None:
    scene = training(job_spec(sizes=(1, 2)))
    [old] = scene.generation.instances
    scene.ask("resize", workers=2).settle()
    [new] = scene.upcoming.instances
    scene.come_up(new).commit(10)
    before = len(scene.effects)
    scene.pass_time(1000).says(old, "running", stalled_s=1000).settle()  # it never drained
    effects = scene.effects[before:]
    ordered = next(i for i, e in enumerate(effects) if isinstance(e, Assign) and e.instance == new)
    assert effects.index(Terminate(old)) < ordered
