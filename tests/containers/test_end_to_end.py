"""Whole jobs in containers of the trainer's image: they resize, drain and survive, with a process's very weights."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.fleets.engine import NETWORK_LABEL, RANK_LABEL, WORK_DIR_LABEL
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.support.docker_engine import Engine
from tests.support.docker_images import Images
from tests.survival.system import System

pytestmark = [pytest.mark.requires("docker"), pytest.mark.timeout(1800)]

BOUND_S = 600.0
TWO_INSTANCES = {"ladder": [{"count": 1}, {"count": 2}]}


class ContainedSystem(System):
    """An elastic whose ranks are containers."""

    engine: Engine
    image: str

    def submit_contained(self, resources: dict[str, Any], **changes: Any) -> None:
        self.submit(resources={"image": self.image, **resources}, **changes)

    def wait(self, condition: Callable[[], bool], what: str, bound_s: float = BOUND_S) -> None:
        super().wait(condition, what, bound_s)

    def containers(self) -> list[str]:
        """The names of the ranks' containers that are there, running or not, by rank."""
        columns = f'{{{{.Label "{RANK_LABEL}"}}}} {{{{.Names}}}}'
        listed = self.engine.docker("ps", "--all", "--filter", f"label={WORK_DIR_LABEL}", "--format", columns)
        return [line.split()[1] for line in sorted(listed.splitlines())]

    def networks(self) -> list[str]:
        listed = self.engine.docker("network", "ls", "--filter", f"label={NETWORK_LABEL}", "--format", "{{.Name}}")
        return listed.split()

    def wait_until_stepping(self, containers: int, after: int = 0) -> None:
        """Until a generation after that one makes steps in so many containers, with a checkpoint behind it."""

        def is_under_way() -> bool:
            generation = self.record.generation
            started = generation is not None and generation.number > after and self.step > 0
            return started and self.committed_step > 0 and len(self.containers()) == containers

        self.wait(is_under_way, f"{containers} containers make steps")

    def succeed(self) -> str:
        """Wait for the end; the digest of all state there. Nothing is left of what ran."""
        self.wait_for_phase(JobPhase.SUCCEEDED)
        self.wait_until_nothing_is_left()
        return self.digest()

    def wait_until_nothing_is_left(self) -> None:
        self.wait(lambda: not self.containers() and not self.networks(), "containers and networks are removed")
        self.wait_until_quiet()
        assert self.engine.docker("volume", "ls", "--quiet") == ""


@pytest.fixture
def system(docker_engine: Engine, images: Images, tmp_path: Path) -> Iterator[ContainedSystem]:
    """An elastic with one daemon, on the engine of the tests."""
    system = ContainedSystem.at(tmp_path, seed=1)
    assert isinstance(system, ContainedSystem)
    system.engine, system.image = docker_engine, images.trainer
    system.start_daemon()
    try:
        yield system
    finally:
        system.close()
        if left := system.containers():
            docker_engine.docker("rm", "--force", *left)


@pytest.fixture(scope="module")
def in_processes(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the same job with ranks that are processes, and with the image's own libraries."""
    root = tmp_path_factory.mktemp("in-processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(libraries))
        system = System.at(root, seed=1)
        system.start_daemon()
        try:
            system.submit()
            system.wait(lambda: system.record.phase.over, "the job is over", BOUND_S)
            assert system.record.phase is JobPhase.SUCCEEDED, system.story()
            return system.digest()
        finally:
            system.close()


def test_one_container_becomes_two_by_measured_utilisation(system: ContainedSystem, in_processes: str) -> None:
    rule = {"up_above": 5, "down_below": 1, "window": "2s", "warm_up": "1s", "cooldown": "1h"}
    system.submit_contained(TWO_INSTANCES, scaling=rule)
    system.wait_until_stepping(2, after=1)

    (network,) = system.networks()
    (described,) = json.loads(system.engine.docker("network", "inspect", network))
    first, second = system.containers()
    joined = {container["Name"] for container in described["Containers"].values()}
    assert described["Internal"], "the ranks' network leads nowhere"
    assert joined == {first, second}

    assert system.succeed() == in_processes
    (event,) = system.events(EventKind.SCALE_UP)
    assert event.inputs["utilization_percent"] > event.inputs["up_above"]
    assert system.record.lost_steps == 0, system.story()


def test_it_drains_and_goes_on_where_it_was(system: ContainedSystem, in_processes: str) -> None:
    system.submit_contained({})
    system.wait_until_stepping(1)

    system.run("pause", "tiny", "--no-daemon")
    system.wait_for_phase(JobPhase.PAUSED)
    system.wait_until_nothing_is_left()
    paused_at = system.committed_step
    system.run("resume", "tiny", "--no-daemon")

    assert system.succeed() == in_processes
    assert paused_at > 0
    assert system.record.lost_steps == 0, system.story()


def test_a_container_is_killed(system: ContainedSystem, in_processes: str) -> None:
    system.submit_contained({"ladder": [{"workers": 2}]})
    system.wait_until_stepping(2)

    system.engine.docker("kill", "--signal", "KILL", system.containers()[1])

    assert system.succeed() == in_processes
    (failed,) = system.events(EventKind.WORKER_FAILED)
    assert "rank 1 was killed by SIGKILL" in failed.message, system.story()
    assert system.record.last_generation == 2


def test_what_needs_more_memory_than_it_has_is_told(system: ContainedSystem) -> None:
    system.submit_contained({"memory": "64MiB"}, limits={"max_failures": 0})

    system.wait_for_phase(JobPhase.FAILED)

    assert "64MiB of memory; raise resources.memory" in system.story(), system.story()
    system.wait_until_nothing_is_left()


def test_the_engine_is_started_again_and_training_does_not_notice(system: ContainedSystem, in_processes: str) -> None:
    system.submit_contained({})
    system.wait_until_stepping(1)

    system.engine.restart()

    assert system.succeed() == in_processes
    assert system.record.last_generation == 1, system.story()


def test_a_rank_that_is_cut_off_ends_in_a_new_generation(system: ContainedSystem, in_processes: str) -> None:
    system.submit_contained({"ladder": [{"count": 2}]}, limits={"stall": "15s"})
    system.wait_until_stepping(2)
    (network,) = system.networks()

    system.engine.docker("network", "disconnect", "--force", network, system.containers()[1])

    assert system.succeed() == in_processes
    assert system.record.last_generation > 1, system.story()


def test_cancel_leaves_nothing(system: ContainedSystem) -> None:
    system.submit_contained({"ladder": [{"count": 2}]})
    system.wait(lambda: len(system.containers()) == 2, "two containers")

    system.run("cancel", "tiny", "--yes", "--no-daemon")

    system.wait_for_phase(JobPhase.CANCELLED)
    system.wait_until_nothing_is_left()


def test_which_image_ran_is_shown(system: ContainedSystem) -> None:
    system.submit_contained({})
    system.wait_until_stepping(1)

    shown = json.loads(system.run("show", "tiny", "--output", "json"))

    digest = system.engine.docker("image", "inspect", "--format", "{{.Id}}", system.image)
    assert digest in json.dumps(shown), os.linesep.join(sorted(shown))
    system.run("cancel", "tiny", "--yes", "--no-daemon")
    system.wait_until_nothing_is_left()
