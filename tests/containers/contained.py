"""Workers in containers with their run directory; the trainer is the one of a few lines."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from docker import DockerClient

from orchestrator.agent.background import Threads
from orchestrator.agent.containers.standing import Home, Patience
from orchestrator.agent.containers.workers import ContainerWorkers
from orchestrator.agent.launcher import Program
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.fleets.engine import WORK_DIR_LABEL, EngineError, connect, remove_instance
from orchestrator.jobs.instances import Assignment, TrainerExit
from tests.agent import fake_trainer
from tests.support.docker_engine import Engine
from tests.support.waiting import wait_until

TRAINER = Program(("-u", "{run_dir}/fake_trainer.py", "{config}", "{run_dir}"), "python3")
FOR_EVER = {"steps": 10**9}
FIRST = {"master_port": 29500}


class Contained:
    """The containers of one generation on one instance."""

    def __init__(
        self,
        engine: Engine,
        root: Path,
        *,
        image: str | None = None,
        program: Program = TRAINER,
        patience: Patience | None = None,
        instance: str = "digits-g1-0",
        agent: str = "agent-1",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.engine = engine
        self.client: DockerClient = connect(os.environ)
        self.work_dir = root / instance
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self.run = RunDirectory.of(self.work_dir, 1)
        self.home = Home(self.work_dir, instance, agent)
        self.workers = ContainerWorkers(
            image or engine.base,
            self.work_dir / "launcher.log",
            self.home,
            os.environ if environ is None else environ,
            Threads(),
            program,
            patience,
        )

    def start(self, config: Mapping[str, Any], *, ranks: int = 1, gpus: tuple[int, ...] = (), **more: Any) -> None:
        self.run.prepare(config)
        shutil.copy(fake_trainer.__file__, self.run.path)
        assignment = Assignment(
            epoch=1, job="digits", generation=1, action="run", workers=ranks, training=dict(config), **{**FIRST, **more}
        )
        self.workers.start(self.run, assignment, own_address="127.0.0.1", gpus=gpus)

    def wait(self, while_waiting: Callable[[], None] = lambda: None, bound_s: float = 60) -> TrainerExit:
        ended: list[TrainerExit] = []

        def is_over() -> bool:
            while_waiting()
            ended.extend(filter(None, [self.workers.poll(step=None)]))
            return bool(ended)

        wait_until(is_over, f"the workers have ended; {self.told()}", bound_s)
        return ended[0]

    def wait_for_steps(self) -> None:
        def is_under_way() -> bool:
            ended = self.workers.poll(step=None)
            assert ended is None, ended
            return self.run.progress.exists()

        wait_until(is_under_way, "the first step", 60)

    def rows(self) -> list[dict[str, Any]]:
        """What the engine lists of this instance, by name."""
        found = self.client.api.containers(all=True, filters={"label": f"{WORK_DIR_LABEL}={self.work_dir}"})
        return sorted(found, key=lambda row: str(row["Names"]))

    def inspected(self) -> list[dict[str, Any]]:
        """All that the engine knows of each container, by rank."""
        return [self.client.api.inspect_container(row["Id"]) for row in self.rows()]

    def networks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.api.networks(filters={"label": f"{WORK_DIR_LABEL}={self.work_dir}"})
        return found

    def environ(self, rank: int) -> dict[str, str]:
        seen: dict[str, str] = json.loads((self.run.path / f"environ-{rank}.json").read_text())
        return seen

    def printed(self, rank: int) -> str:
        return "".join(log.path.read_text() for log in self.run.rank_logs(rank))

    def told(self) -> str:
        return self.workers.log_path.read_text()

    def end(self) -> None:
        """Kill, and wait until nothing is left."""
        self.workers.kill()
        wait_until(self.workers.gone, "nothing is left of the workers")
        wait_until(lambda: not self.rows(), "their containers are removed")

    def close(self) -> None:
        self.end()
        self.client.close()


def end_from_outside(work_dir: Path) -> None:
    """Remove the containers of an instance, as whoever ends it does: again while the engine has too much to do."""

    def are_removed() -> bool:
        try:
            remove_instance(os.environ, str(work_dir))
        except EngineError:
            return False
        return True

    wait_until(are_removed, "the engine removes the containers")
