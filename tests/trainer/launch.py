"""Real trainer processes for tests: started, waited for with a bound, and ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from tests.trainer.warm import TRAINER, WarmStart

BOUND_S = 300.0
"""Where bfloat16 is emulated, as on a CPU without AVX-512, a run of seconds takes minutes."""

TINY: dict[str, Any] = {
    "labels": 50,
    "steps": 12,
    "batch": 16,
    "labelled_batch": 8,
    "shards": 4,
    "evaluate_every": 8,
    "consistency": {"weight": 10.0},
    "augmentation": {"rotate_degrees": 15.0, "scale": 0.1, "shear": 0.1},
}
"""A run of a second or so, with every part of a real one."""

LONG = TINY | {"steps": 100_000}
"""A run that is still going when the test acts."""


EVERY_STEP = {"ELASTIC_CHECKPOINT_EVERY_S": "0"}
"""A checkpoint whenever the one before is written."""

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")

COLD = (sys.executable, "-m", "trainer")
"""The command of a trainer that starts from nothing, as it does in reality."""

_warm_starts: list[WarmStart] = []


@contextmanager
def warm_starts() -> Iterator[None]:
    """Until the end, what `start` starts without a command is forked from a process that has imported torch."""
    _warm_starts.append(WarmStart())
    try:
        yield
    finally:
        _warm_starts.pop().close()


class Process(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int, /) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, at most BOUND_S."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {BOUND_S:.0f} s in vain: {what}"
        time.sleep(0.01)


@dataclass
class Run:
    """A run directory and the processes that train in it."""

    run_dir: Path
    processes: list[Process]

    def wait(self) -> list[int]:
        """The exit code of every process, in the order of their ranks."""
        return [process.wait(BOUND_S) for process in self.processes]

    def finish(self) -> None:
        """Wait for the end of a run that is expected to finish."""
        codes = self.wait()
        assert codes == [0] * len(codes), self.stderr()

    def signal(self, number: signal.Signals, rank: int = 0) -> None:
        """Send a signal to one rank."""
        self.processes[rank].send_signal(number)

    def stderr(self) -> str:
        """What all processes have said."""
        return "".join(path.read_text() for path in sorted(self.run_dir.glob("stderr-*")))

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of progress.jsonl."""
        path = self.run_dir / "progress.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1] if line]

    def reports(self) -> list[dict[str, Any]]:
        """The lines that are reports."""
        return [line for line in self.lines() if "step" in line and "note" not in line]

    def notes(self) -> list[str]:
        """The remarks among the lines."""
        return [line["note"] for line in self.lines() if "note" in line]

    def checkpoints(self) -> list[Path]:
        """The whole checkpoints, oldest first."""
        return sorted((self.run_dir / "checkpoints").glob("step-*"))

    def wait_for_step(self, step: int) -> None:
        """Wait until a report tells of this step."""
        wait_until(lambda: any(r["step"] >= step for r in self.reports()) or self._ended(), f"step {step}")
        assert not self._ended(), self.stderr()

    def wait_for_checkpoint(self) -> None:
        """Wait until there is a checkpoint."""
        wait_until(lambda: bool(self.checkpoints()) or self._ended(), "a checkpoint")
        assert self.checkpoints(), self.stderr()

    def _ended(self) -> bool:
        return any(process.poll() is not None for process in self.processes)


@contextmanager
def start(
    run_dir: Path,
    config: Mapping[str, Any] = TINY,
    *,
    ranks: int = 1,
    environ: Mapping[str, str] | None = None,
    code: str = TRAINER,
    command: Sequence[str] | None = None,
) -> Iterator[Run]:
    """Start the ranks of a run, each a process of its own; those still there at the end are killed.

    They run the code, or with a command that, and then start from nothing.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    config_path = run_dir / "config.json"
    config_path.write_text(json.dumps(config))
    processes: list[Process] = []
    try:
        for rank in range(ranks):
            world = {} if ranks == 1 else _world(rank, ranks, run_dir / "rendezvous")
            full = {**os.environ, "ELASTIC_TENSORBOARD": "0", **world, **(environ or {})}
            arguments, said = (str(config_path), str(run_dir)), run_dir / f"stderr-{rank}"
            if command is None and _warm_starts:
                processes.append(_warm_starts[-1].run(code, arguments, full, said))
            else:
                processes.append(_popen([*(command or (sys.executable, "-c", code)), *arguments], full, said))
        yield Run(run_dir, processes)
    finally:
        for process in processes:
            process.kill()
            process.wait(BOUND_S)


def runs(process: psutil.Process) -> bool:
    """Whether it is there still, and not only waits to be waited for."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _popen(command: Sequence[str], environ: Mapping[str, str], output: Path) -> "subprocess.Popen[str]":
    with open(output, "w") as stderr:
        return subprocess.Popen(command, env=environ, stdout=stderr, stderr=stderr, text=True)


def resume_from(checkpoint: Path, run_dir: Path) -> Path:
    """A fresh run directory that starts from a checkpoint, as an agent lays it out."""
    run_dir.mkdir(parents=True)
    checkpoint.rename(run_dir / "resume")
    return run_dir


def result(run: Run) -> dict[str, Any]:
    """result.json of a finished run's final checkpoint."""
    final = run.checkpoints()[-1]
    content: dict[str, Any] = json.loads((final / "result.json").read_text())
    return content


def _world(rank: int, ranks: int, meeting_place: Path) -> dict[str, str]:
    where = {"ELASTIC_RENDEZVOUS": f"file://{meeting_place}", "GLOO_SOCKET_IFNAME": "lo"}
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    return where | {name: str(number) for name, number in numbers.items()}
