"""The trainer and the plain loop side by side: same network, batch, losses and images, each as it is started."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.article import BATCH, CLASSES, EMA_DECAY, LABELLED_BATCH, WEIGHT
from benchmarks.figures import Figure, Findings, Target
from benchmarks.place import read_reports

PX, IMAGES = 32, 2_000
PLAIN_STEPS, OUR_STEPS = {"cpu": 6, "cuda": 100}, {"cpu": 16, "cuda": 600}
TARGET = {"cpu": 3.0, "cuda": 5.0}
BOUND_S = 600

_REMARK = (
    f"The plain loop is benchmarks/article.py. Both: ResNet-18 with the stem for small images, {BATCH} images a step, "
    f"{LABELLED_BATCH} of them labelled, {IMAGES:,} made-up pictures. What ours computes more: its teacher sees the "
    "labelled images too, and inputs have noise."
)


def measure(runs: int, root: Path) -> Findings:
    """Images a second of both, in turns, and their ratio."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = _pictures(root / "pictures")
    plain, ours = [], []
    for number in range(runs):
        plain.append(_plain(images, PLAIN_STEPS[device]))
        ours.append(_ours(images, root / f"run-{number}", OUR_STEPS[device], device))
    ratios = tuple(mine / theirs for mine, theirs in zip(ours, plain, strict=True))
    where = "on the GPU" if device == "cuda" else f"on {len(os.sched_getaffinity(0))} CPU cores"
    return Findings(
        (
            Figure(
                f"Mean Teacher at {PX} px {where}, of the plain loop", "times", ratios, Target(at_least=TARGET[device])
            ),
            Figure("the plain loop", "images/s", tuple(plain)),
            Figure("`python -m trainer`", "images/s", tuple(ours)),
        ),
        remarks=(_REMARK,),
    )


def _pictures(directory: Path) -> Path:
    """Pictures of noise: what is in them does not matter for speed."""
    draws = np.random.default_rng(0)
    for number in range(IMAGES):
        path = directory / f"{number % CLASSES}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (PX, PX, 3), dtype=np.uint8)).save(path)
    return directory


def _plain(images: Path, steps: int) -> float:
    command = [sys.executable, "-m", "benchmarks.article", str(images), "--px", str(PX), "--steps", str(steps)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=BOUND_S, text=True)
    return float(ended.stdout)


def _ours(images: Path, directory: Path, steps: int, device: str) -> float:
    directory.mkdir()
    workers = 1 if device == "cuda" else 1 << (len(os.sched_getaffinity(0)).bit_length() - 1)
    config: dict[str, Any] = {
        "dataset": "folder",
        "folders": {"labelled": str(images), "test": str(images), "image_px": PX},
        "data_dir": str(directory.parent / "cache"),
        "labels": "10%",
        "steps": steps,
        "batch": BATCH,
        "labelled_batch": LABELLED_BATCH,
        "shards": workers,
        "evaluate_every": 10**6,
        "consistency": {"weight": WEIGHT},
        "ema": {"decay": EMA_DECAY},
    }
    (directory / "config.json").write_text(json.dumps(config))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"] if workers > 1 else []
    command = [sys.executable, *launcher, "-m", "trainer", str(directory / "config.json"), str(directory / "run")]
    with open(directory / "log", "ab") as log:
        environ = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, stdout=log, stderr=log, env=environ, check=True, timeout=BOUND_S)
    return rate(read_reports(directory / "run" / "progress.jsonl"), steps)


def rate(reports: Sequence[dict[str, Any]], last_step: int) -> float:
    """Images a second between the first report and the last one before the end, which includes an evaluation."""
    first, last = reports[0], [report for report in reports if report["step"] < last_step][-1]
    elapsed_s = (datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])).total_seconds()
    return float((last["samples"] - first["samples"]) / elapsed_s)
