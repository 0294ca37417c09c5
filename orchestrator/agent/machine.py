"""The machine that the agent really runs on: processes, directories, threads, clocks."""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.agent.background import Threads
from orchestrator.agent.containers.guard import Guard
from orchestrator.agent.containers.standing import Home
from orchestrator.agent.containers.workers import ContainerWorkers
from orchestrator.agent.equipment import Asker, Place, Workers
from orchestrator.agent.images import Bringing
from orchestrator.agent.launcher import TRAINER, Program, TorchrunWorkers
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.agent.sampling import Sampler, choose_sampler
from orchestrator.store.owner import this_process


class Machine:
    """`Equipment` of real life."""

    look_every_s = 0.1
    glance_every_s = 0.25

    def __init__(
        self,
        place: Place,
        work_dir: Path,
        image_cache: Path,
        environ: Mapping[str, str],
        program: Program = TRAINER,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        age_s: float = 0.0,
        image: str | None = None,
    ) -> None:
        """`image`: workers run in containers of it; None: they are processes."""
        self.background = Threads()
        self._place = place
        self._work_dir = work_dir
        self._image_cache = image_cache
        self._environ = environ
        self._program = program
        self._monotonic = monotonic
        self._image = image
        self._guard: Guard | None = None
        self._launchers = 0
        self._began_s = _running_s() - age_s

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self._monotonic()

    def age_s(self) -> float:
        return _running_s() - self._began_s

    def launcher(self) -> Workers:
        self._launchers += 1
        log = self._work_dir / f"launcher-{self._launchers}.log"
        if self._image is None:
            return TorchrunWorkers(log, self._environ, self._program)
        me = this_process(self._place.instance)
        agent = f"{me.host}:{me.pid}:{me.started:g}"
        if self._guard is None or not self._guard.lives:
            self._guard = Guard(agent, self._environ)
        home = Home(self._work_dir.absolute(), self._place.instance, agent, self._guard)
        return ContainerWorkers(
            self._image, log, home, self._environ, self.background, self._program, monotonic=self._monotonic
        )

    def run_directory(self, generation: int) -> RunDirectory:
        return RunDirectory.of(self._work_dir, generation)

    def images(self, asker: Asker) -> Bringing:
        return Bringing(self._image_cache, asker)

    def sampler(self, pids: Callable[[], Sequence[int]]) -> Sampler:
        return choose_sampler(self._place.gpus, self._place.cores, pids)

    def free_port(self) -> int:
        with socket.socket() as probe:
            probe.bind((self._place.address, 0))
            port: int = probe.getsockname()[1]
            return port


def _running_s() -> float:
    """A clock that goes on also while the machine is suspended, for that is paid for too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
