"""Whole runs of `python -m trainer`: how soon it has made its first step, and what its checkpoints cost the loop."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Findings, Target
from benchmarks.place import BOUND_S, read_reports, until

DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "labels": 50,
    "batch": 128,
    "labelled_batch": 32,
    "shards": 2,
    "evaluate_every": 10**6,
    "steps": 10**6,
}
CHECKPOINT_EVERY_S, CHECKPOINTS = 10.0, 3


def measure(runs: int, root: Path) -> Findings:
    """On the demo's images; the stalls are what the trainer itself reports."""
    import torch

    cuda = torch.cuda.is_available()
    starts, stalls, each = [], [], []
    for number in range(runs):
        start_s, stall_s, elapsed_s, checkpoints = _run(root / f"whole-{number}")
        starts.append(start_s)
        stalls.append(100 * stall_s / elapsed_s)
        each.append(1000 * stall_s / checkpoints)
    return Findings(
        (
            Figure("start of the process → first training step", "s", tuple(starts), Target(at_most=6)),
            Figure(
                f"the loop stands still for checkpoints, one every {CHECKPOINT_EVERY_S:.0f} s",
                "% of the time",
                tuple(stalls),
                None if cuda else Target(at_most=3),
            ),
            Figure("the loop stands still for one checkpoint", "ms", tuple(each), Target(at_most=2) if cuda else None),
        )
    )


def _run(directory: Path) -> tuple[float, float, float, int]:
    """Seconds to the first step, seconds stalled, seconds trained, checkpoints written."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(DIGITS))
    command = [sys.executable, "-m", "trainer", str(directory / "config.json"), str(directory / "run")]
    progress = directory / "run" / "progress.jsonl"

    def reports() -> list[dict[str, Any]]:
        with suppress(OSError):
            return read_reports(progress)
        return []

    begin_s = time.monotonic()
    with open(directory / "log", "ab") as log:
        process = subprocess.Popen([*command, "--checkpoint-every-s", str(CHECKPOINT_EVERY_S)], stdout=log, stderr=log)
    try:
        until(
            lambda: bool(reports()),
            "the first step",
            (directory / "log").read_text,
            BOUND_S,
            look_every_s=0.01,
        )
        start_s = time.monotonic() - begin_s
        time.sleep(CHECKPOINTS * CHECKPOINT_EVERY_S + 2)  # how long it trains is what is measured over
        last = reports()[-1]
        elapsed_s = time.monotonic() - begin_s - start_s
    finally:
        process.kill()
        process.wait()
    return start_s, last["checkpoint_stall_s"], elapsed_s, CHECKPOINTS
