"""What a training step is made of: the teacher, the moving average, being exact. In this process, one thread a rank."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import Figure, Findings, Target
from trainer.config import DatasetFacts, TrainingConfig
from trainer.data.batches import ResidentBatches
from trainer.data.dataset import Dataset, ResidentPixels
from trainer.data.pools import split_pools
from trainer.mean_teacher import follow
from trainer.precision import prefers_channels_last, resolve
from trainer.sampling import Sampler
from trainer.state import TrainState, build_state
from trainer.step import TrainStep
from trainer.world import World

PX, IMAGES = 32, 1_000
BATCH = {"cpu": 128, "cuda": 512}
SHARDS = 2
STEPS = {"cpu": 3, "cuda": 30}
BASE: dict[str, Any] = {"steps": 10_000, "shards": SHARDS, "augmentation": {"flip": True}}


def measure(runs: int, root: Path) -> Findings:
    """Each pair in turns."""
    del root
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    batch = BATCH[device.type]
    mean_teacher = {"batch": batch, "labelled_batch": batch // 4}
    kinds: dict[str, dict[str, Any]] = {
        "mean teacher": mean_teacher,
        "supervised": {"batch": batch, "labelled_batch": batch, "method": "supervised"},
        "fast": mean_teacher | {"exact": False},
    }
    memory = _memory(kinds, device)  # first, while nothing else is in the device's memory
    trained = {name: _Trained(BASE | changes, device) for name, changes in kinds.items()}
    seconds: dict[str, list[float]] = {name: [] for name in (*trained, "ema")}
    for _ in range(runs):
        for name, run in trained.items():
            seconds[name].append(run.seconds_a_step())
        seconds["ema"].append(_ema_seconds(trained["mean teacher"].state, device))

    def percent(of: str, by: str) -> tuple[float, ...]:
        return tuple(100 * a / b for a, b in zip(seconds[of], seconds[by], strict=True))

    where = f"{batch} images of {PX} px, {SHARDS} shards, one {'GPU' if device.type == 'cuda' else 'thread'}"
    ratios = tuple(a / b for a, b in zip(seconds["mean teacher"], seconds["supervised"], strict=True))
    return Findings(
        (
            Figure("a Mean Teacher step, of a supervised one of the same batch", "times", ratios, Target(at_most=1.40)),
            Figure("the moving average, of a step", "%", percent("ema", "mean teacher"), Target(at_most=1)),
            Figure("an exact step, of one without `exact`", "%", percent("mean teacher", "fast"), Target(at_most=105)),
            *memory,
        ),
        remarks=(f"Parts of a step: {where}.",),
    )


class _Trained:
    """A state and its steps, warmed up."""

    def __init__(self, settings: dict[str, Any], device: torch.device) -> None:
        config = TrainingConfig.model_validate(settings)
        self._exact = config.exact
        precision = resolve("auto", device)
        dataset = _noise(device)
        plan = config.plan(dataset.facts)
        channels_last = prefers_channels_last("auto", device, precision)
        self.state = build_state(config, plan, device, channels_last=channels_last)
        pools = split_pools(dataset.train_classes, plan, 0)
        batches = ResidentBatches(dataset, Sampler(config, pools), device)
        self._step = TrainStep(config, plan, self.state, dataset, batches, World(0, 1, device), precision)
        self._device = device

    def seconds_a_step(self) -> float:
        """The mean over some steps."""
        steps = STEPS[self._device.type]
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = self._exact, not self._exact
        self._step.run(stop=False)
        return _timed(lambda: [self._step.run(stop=False) for _ in range(steps)], self._device) / steps


def _memory(kinds: dict[str, dict[str, Any]], device: torch.device) -> list[Figure]:
    """Peak memory on a GPU; of a CPU's, the allocator tells none that would be worth a figure."""
    if device.type != "cuda":
        return []
    peaks = {}
    for name in ("mean teacher", "supervised"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        _Trained(BASE | kinds[name], device).seconds_a_step()
        peaks[name] = torch.cuda.max_memory_allocated()
    share = peaks["mean teacher"] / peaks["supervised"]
    return [Figure("peak memory, of supervised training's", "times", (share,), Target(at_most=1.15))]


def _noise(device: torch.device) -> Dataset:
    pixels = torch.randint(0, 256, (IMAGES, 3, PX, PX), dtype=torch.uint8)
    classes = torch.arange(IMAGES) % 10
    half = torch.full((3,), 0.5)
    return Dataset(
        facts=DatasetFacts(IMAGES, IMAGES, 10, PX),
        train=ResidentPixels(pixels.to(device)),
        train_classes=classes,
        test=ResidentPixels(pixels.to(device)),
        test_classes=classes,
        mean=half,
        std=half,
        class_names=tuple("0123456789"),
        fingerprint="noise",
    )


def _ema_seconds(state: TrainState, device: torch.device) -> float:
    teacher = state.teacher
    assert teacher is not None
    once = [_timed(lambda: follow(teacher.weights, state.student.weights, 0.99), device) for _ in range(20)]
    return statistics.median(once)


def _timed(act: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
