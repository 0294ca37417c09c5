"""A job of one's own program: what its agents are told, what its instances have, and that its decisions replay."""

from orchestrator.controller.effects import Launch
from orchestrator.controller.replay import replay
from orchestrator.jobs.instances import AssignedProgram
from orchestrator.jobs.phases import JobPhase
from orchestrator.spec.models import JobSpec, Resources, Rung
from tests.controller.builders import provisioning, starting
from tests.controller.world import World

OWN = JobSpec(
    name="digits",
    command=("/usr/bin/python3", "train.py", "{config}"),
    config={"lr": 0.1},
    working_dir="/home/ada/work",
    resources=Resources(threads=3, ladder=(Rung(workers=1), Rung(workers=2))),
)


def test_an_agent_is_told_the_program_and_its_config() -> None:
    told = starting(OWN).assignment()
    assert told.training == {"lr": 0.1}
    assert told.program == AssignedProgram(command=OWN.command or (), working_dir="/home/ada/work", threads=3)


def test_elastics_own_trainer_needs_no_telling() -> None:
    assert starting().assignment().program is None


def test_a_worker_has_the_cores_that_it_asks_for() -> None:
    (launch,) = [effect for effect in provisioning(OWN).effects if isinstance(effect, Launch)]
    assert launch.request.cores_per_worker == 3


def test_its_decisions_replay() -> None:
    world = World(OWN)
    world.run(until=lambda world: world.record.phase is JobPhase.RUNNING and world.step > 8)
    world.ask("pause")
    world.run(until=lambda world: world.record.phase is JobPhase.PAUSED)
    verdicts = list(replay(world.store, "digits"))
    assert verdicts
    assert [verdict for verdict in verdicts if verdict.differences] == []
