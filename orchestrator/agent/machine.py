"""The machine that the agent really runs on: processes, directories, threads, clocks."""

import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.agent.background import Threads
from orchestrator.agent.equipment import Asker, Place
from orchestrator.agent.images import Bringing
from orchestrator.agent.launcher import TRAINER, Program, TorchrunWorkers
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.agent.sampling import Sampler, choose_sampler


class Machine:
    """`Equipment` of real life."""

    look_every_s = 0.1

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
    ) -> None:
        self.background = Threads()
        self._place = place
        self._work_dir = work_dir
        self._image_cache = image_cache
        self._environ = environ
        self._program = program
        self._monotonic = monotonic
        self._launchers = 0
        self._began_s = _running_s() - age_s

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self._monotonic()

    def age_s(self) -> float:
        return _running_s() - self._began_s

    def launcher(self) -> TorchrunWorkers:
        self._launchers += 1
        return TorchrunWorkers(self._work_dir / f"launcher-{self._launchers}.log", self._environ, self._program)

    def run_directory(self, generation: int) -> RunDirectory:
        return RunDirectory.of(self._work_dir, generation)

    def images(self, asker: Asker) -> Bringing:
        return Bringing(self._image_cache, asker)

    def sampler(self, pid: Callable[[], int | None]) -> Sampler:
        return choose_sampler(self._place.gpus, self._place.cores, pid)

    def free_port(self) -> int:
        with socket.socket() as probe:
            probe.bind((self._place.address, 0))
            port: int = probe.getsockname()[1]
            return port


def _running_s() -> float:
    """A clock that goes on also while the machine is suspended, for that is paid for too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
