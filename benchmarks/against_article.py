"""The trainer and the plain loop side by side: same network, batch, losses and images, each as it is started."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.article import BATCH, CLASSES, EMA_DECAY, LABELLED_BATCH, WEIGHT
from benchmarks.figures import Figure, Findings, Target
from benchmarks.place import read_reports

PX, IMAGES = 32, 2_000
BOUND_S = 600
TARGET = {"cpu": 3.0, "cuda": 5.0}


@dataclass(frozen=True)
class Network:
    """What both train, and for how many steps each, by kind of device."""

    name: str
    stem: str
    plain_steps: dict[str, int]
    our_steps: dict[str, int]


NETWORKS = (
    Network("torchvision's ResNet-18", "imagenet", {"cpu": 30, "cuda": 200}, {"cpu": 120, "cuda": 1_200}),
    Network("ResNet-18 with the stem for small images", "cifar", {"cpu": 6, "cuda": 100}, {"cpu": 16, "cuda": 600}),
)

_REMARK = (
    f"The plain loop is benchmarks/article.py. Both: {BATCH} images a step, {LABELLED_BATCH} of them labelled, "
    f"{IMAGES:,} made-up pictures. What ours computes more: its teacher sees the labelled images too, and inputs have "
    "noise."
)


def measure(runs: int, root: Path) -> Findings:
    """Images a second of both, in turns, and their ratio, for each network."""
    images = _pictures(root / "pictures")
    figures = [figure for network in NETWORKS for figure in _compare(network, images, runs, root / network.stem)]
    return Findings(tuple(figures), remarks=(_REMARK,))


def _compare(network: Network, images: Path, runs: int, root: Path) -> list[Figure]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    root.mkdir()
    plain, ours = [], []
    for number in range(runs):
        plain.append(_plain(network.stem, images, network.plain_steps[device]))
        ours.append(_ours(network.stem, images, root / f"run-{number}", network.our_steps[device], device))
    ratios = tuple(mine / theirs for mine, theirs in zip(ours, plain, strict=True))
    where = "on the GPU" if device == "cuda" else f"on {len(os.sched_getaffinity(0))} CPU cores"
    what = f"Mean Teacher at {PX} px {where}, {network.name}, of the plain loop"
    return [
        Figure(what, "times", ratios, Target(at_least=TARGET[device])),
        Figure("the plain loop", "images/s", tuple(plain)),
        Figure("`python -m trainer`", "images/s", tuple(ours)),
    ]


def _pictures(directory: Path) -> Path:
    """Pictures of noise: what is in them does not matter for speed."""
    draws = np.random.default_rng(0)
    for number in range(IMAGES):
        path = directory / f"{number % CLASSES}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (PX, PX, 3), dtype=np.uint8)).save(path)
    return directory


def _plain(stem: str, images: Path, steps: int) -> float:
    setting = ["--px", str(PX), "--stem", stem, "--steps", str(steps)]
    command = [sys.executable, "-m", "benchmarks.article", str(images), *setting]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=BOUND_S, text=True)
    return float(ended.stdout)


def _ours(stem: str, images: Path, directory: Path, steps: int, device: str) -> float:
    directory.mkdir()
    workers = 1 if device == "cuda" else 1 << (len(os.sched_getaffinity(0)).bit_length() - 1)
    config: dict[str, Any] = {
        "dataset": "folder",
        "folders": {"labelled": str(images), "test": str(images), "image_px": PX},
        "data_dir": str(directory.parent / "cache"),
        "labels": "10%",
        "model": {"stem": stem},
        "steps": steps,
        "batch": BATCH,
        "labelled_batch": LABELLED_BATCH,
        "shards": workers,
        "evaluate_every": 10**6,
        "consistency": {"weight": WEIGHT, "on_labelled": False},
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
