"""A real agent whose workers run in containers: what it tells of them, and what is left when it is killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.fleets.engine import WORK_DIR_LABEL, connect
from orchestrator.fleets.processes import end_marked_processes
from orchestrator.jobs.instances import AssignedProgram
from tests.agent import fake_trainer
from tests.agent.agent_process import INSTANCE, JOB
from tests.agent.real_agent import SLOWLY, Instance
from tests.containers.contained import end_from_outside
from tests.support.docker_engine import Engine
from tests.support.isolation import SESSION_VARIABLE, left_over
from tests.support.waiting import wait_until

pytestmark = pytest.mark.requires("docker")

PROGRAM = AssignedProgram(command=("python3", "-c", Path(fake_trainer.__file__).read_text(), "{config}", "{run_dir}"))
BUSY = {**SLOWLY, "step_s": 0.0}


class ContainedInstance(Instance):
    """One that the local fleet would start for a job with an image."""

    def __init__(self, engine: Engine, root: Path) -> None:
        super().__init__(root)
        self.engine = engine
        command = ["-m", "orchestrator.cli.main", "--store", self.store.url, "agent", "--instance", INSTANCE]
        command += ["--job", JOB, "--workers", "1", "--cores", "1", "--gpus", "", "--work-dir", str(self.work_dir)]
        self.start(command=[*command, "--idle-exit", "60s", "--image", engine.base])

    def trains(self, training: Any) -> None:
        self.order("run", training, program=PROGRAM)
        self.wait(lambda beat: beat.progress is not None, "the first step")

    def containers(self) -> list[dict[str, Any]]:
        client = connect(os.environ)
        found: list[dict[str, Any]] = client.api.containers(
            all=True, filters={"label": f"{WORK_DIR_LABEL}={self.work_dir}"}
        )
        client.close()
        return found


def guards_left() -> list[psutil.Process]:
    """Of this session of tests."""
    return [each for each in left_over(os.environ[SESSION_VARIABLE]) if "containers.guard" in " ".join(each.cmdline())]


@pytest.fixture
def instance(docker_engine: Engine, tmp_path: Path) -> Iterator[ContainedInstance]:
    contained = ContainedInstance(docker_engine, tmp_path)
    yield contained
    end_marked_processes(str(contained.work_dir), grace_s=0)
    end_from_outside(contained.work_dir)
    assert contained.process is not None
    contained.process.wait(30)
    wait_until(lambda: not guards_left(), "its guard ends while the engine is there", 60)


def test_it_tells_of_image_and_utilisation_and_commits_what_a_drain_leaves(instance: ContainedInstance) -> None:
    instance.trains(BUSY)
    beat = instance.wait(lambda beat: beat.utilization is not None and beat.utilization.count > 3, "samples")
    assert beat.image.startswith("sha256:"), "a base that was imported has no other digest"
    assert beat.utilization is not None
    assert beat.utilization.source == "cpu"
    assert max(beat.utilization.percents) > 0, "the container's processes are measured"
    instance.order("drain", BUSY, program=PROGRAM)
    last = instance.wait(lambda beat: beat.exit is not None, "it has drained")
    assert last.exit is not None
    assert (last.exit.outcome, last.committed_step) == ("drained", last.exit.step)
    assert not instance.containers()


def test_of_an_agent_that_is_killed_nothing_is_left(instance: ContainedInstance) -> None:
    instance.trains(SLOWLY)
    assert len(instance.containers()) == 1
    assert instance.processes()
    assert instance.process is not None
    guards = psutil.Process(instance.process.pid).children()
    assert len(guards) == 1
    os.kill(instance.process.pid, signal.SIGKILL)
    instance.process.wait()
    wait_until(lambda: not instance.containers(), "its guard has removed the container", 60)
    _, waiting = psutil.wait_procs(guards, 60)
    assert not waiting, "the guard ends too"
    wait_until(lambda: not instance.processes(), "no process of it is left")
