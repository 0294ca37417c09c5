"""What elasticity costs while nothing happens: training under an agent against `python -m trainer` alone.

Both train the demo's network with the same configuration for the same steps, in turns. Alone means: no agent, no
controller, no checkpoint but the last. The rate is that between two evaluations, so it is over the same steps of both,
without start and end.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import Figure, Findings, Target
from benchmarks.place import BOUND_S, DEMO, Place, read_reports, until
from orchestrator.spec.load import load_job

JOB = "digits"
EVALUATE_EVERY = 25
STEPS = {1: 101, 2: 126}
"""By number of workers; one more than the last step that counts."""
PAIRS_A_RUN = {1: 1, 2: 2}
"""Two workers wait for each other, and so for whichever core the machine's other guests slow down at the moment: the
same run differs from itself by several percent."""
CHECKPOINT_EVERY = "5s"


@dataclass(frozen=True)
class Pair:
    """The same steps, one after the other."""

    alone: float
    """Images a second."""
    with_agent: float
    agent_percent: float
    """Of a core, for supervising and uploading."""
    daemon_percent: float

    @property
    def percent(self) -> float:
        return 100 * self.with_agent / self.alone


def measure(runs: int, root: Path) -> Findings:
    """With one worker and with two."""
    figures, remarks = [], []
    for workers, steps in STEPS.items():
        pairs = []
        for number in range(runs * PAIRS_A_RUN[workers]):
            directory = root / f"training-{workers}-{number}"
            directory.mkdir()
            pairs.append(_pair(directory, workers, steps, agent_first=number % 2 == 1))
        noun, alone, target = (
            ("worker", "`python -m trainer`", Target(at_least=97))
            if workers == 1
            else ("workers", "`torchrun -m trainer`", None)
        )
        name = f"{workers} {noun}, with agent and checkpoints every {CHECKPOINT_EVERY}: speed, of that of {alone} alone"
        figures += [
            Figure(name, "%", tuple(pair.percent for pair in pairs), target),
            Figure(f"{alone} alone, {workers} {noun}", "images/s", tuple(pair.alone for pair in pairs)),
        ]
        agent = Figure("", "%", tuple(pair.agent_percent for pair in pairs)).measured()
        daemon = Figure("", "%", tuple(pair.daemon_percent for pair in pairs)).measured()
        remarks.append(f"While {workers} {noun} trained, the agent used {agent} of a core and the controller {daemon}.")
    times = ", ".join(f"{pairs} a run with {workers}" for workers, pairs in PAIRS_A_RUN.items())
    remarks.append(f"Each speed with an agent was measured beside one of the trainer alone: {times}.")
    return Findings(tuple(figures), remarks=tuple(remarks))


def _pair(directory: Path, workers: int, steps: int, agent_first: bool) -> Pair:
    """One after the other, in an order that alternates: what drifts favours neither."""
    settings = [
        f"training.steps={steps}",
        "training.epochs=null",
        f"training.evaluate_every={EVALUATE_EVERY}",
        f"checkpoint.every={CHECKPOINT_EVERY}",
        f"scaling.min={workers}",
        f"scaling.max={workers}",
    ]
    if agent_first:
        rate, agent, daemon = _with_agent(directory, settings)
        return Pair(_alone(directory, workers, settings), rate, agent, daemon)
    alone = _alone(directory, workers, settings)
    return Pair(alone, *_with_agent(directory, settings))


def _alone(directory: Path, workers: int, settings: list[str]) -> float:
    config, run = directory / "config.json", directory / "alone"
    config.write_text(json.dumps(load_job(DEMO, settings).trainer_config))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"] if workers > 1 else []
    command = [sys.executable, *launcher, "-m", "trainer", str(config), str(run), "--checkpoint-every-s", "86400"]
    with open(directory / "alone.log", "ab") as log:
        environ = os.environ | {"OMP_NUM_THREADS": "1"}  # as under the agent
        subprocess.run(command, stdout=log, stderr=log, env=environ, check=True, timeout=3 * BOUND_S)
    return _rate(read_reports(run / "progress.jsonl"))


def _with_agent(directory: Path, settings: list[str]) -> tuple[float, float, float]:
    """Images a second, and the shares of a core that agent and controller used meanwhile, in percent."""
    with Place.below(directory) as place:
        place.run("submit", str(DEMO), *(word for change in settings for word in ("--set", change)))
        place.first_report(1)
        [agent], [daemon] = place.agents(), place.daemons()
        meters = [_Meter.of(agent), _Meter.of(daemon)]

        def ended() -> bool:
            for meter in meters:
                meter.read()
            return place.record(JOB).phase.over

        until(ended, "the job ends", place.story, 3 * BOUND_S, look_every_s=0.5)
        return _rate(place.shipped_reports(JOB)), meters[0].percent, meters[1].percent


def _rate(reports: Sequence[dict[str, Any]]) -> float:
    """Images a second between the first evaluation and the last one before the end."""
    at_evaluation = [report for report in reports if report["step"] % EVALUATE_EVERY == 0]
    first, last = at_evaluation[0], at_evaluation[-1]
    elapsed_s = (datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])).total_seconds()
    return float((last["samples"] - first["samples"]) / elapsed_s)


@dataclass
class _Meter:
    """Processor time of one process between the first look at it and the last."""

    process: psutil.Process
    first: tuple[float, float]
    last: tuple[float, float]

    @classmethod
    def of(cls, process: psutil.Process) -> "_Meter":
        now = _reading(process)
        return cls(process, now, now)

    def read(self) -> None:
        with suppress(psutil.NoSuchProcess):  # it has ended: the last reading stands
            self.last = _reading(self.process)

    @property
    def percent(self) -> float:
        return 100 * (self.last[1] - self.first[1]) / max(self.last[0] - self.first[0], 1e-9)


def _reading(process: psutil.Process) -> tuple[float, float]:
    times = process.cpu_times()
    return time.monotonic(), times.user + times.system
