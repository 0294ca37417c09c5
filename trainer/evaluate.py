"""Accuracy on the test images: no augmentation, running statistics, float32."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.augment import normalize, to_channels, to_unit_range
from trainer.data.dataset import Dataset
from trainer.model import INPUT_CHANNELS
from trainer.network import FlatNetwork
from trainer.state import TrainState
from trainer.world import World


@dataclass(frozen=True)
class Score:
    """How a network does on the test images; confusion[true][predicted] counts images.

    per_class: the share of each class's images that is right; none of a class without test images.
    """

    accuracy: float
    per_class: list[float | None]
    confusion: list[list[int]]


@dataclass(frozen=True)
class Evaluation:
    """The scores of both networks; no teacher when supervised."""

    student: Score
    teacher: Score | None


LARGEST_BATCH, MOST_PIXELS = 256, 256 * 128**2
"""Of what is evaluated at once: float32 activations of large images take far more memory than a shard's in training."""


def evaluate(state: TrainState, dataset: Dataset, shards: int, world: World) -> Evaluation:
    """Score the networks; all ranks get the result.

    Every rank takes the part of its shards, so that batches, and with them bits, are the same at any number of ranks.
    """
    networks = [network for network in (state.student, state.teacher) if network is not None]
    classes = dataset.facts.classes
    confusion = torch.zeros(len(networks), classes, classes, dtype=torch.int64, device=world.device)
    batch = max(1, min(LARGEST_BATCH, MOST_PIXELS // dataset.facts.image_px**2))
    parts = torch.arange(len(dataset.test)).tensor_split(shards)
    for shard in world.shards(shards):
        for part in torch.split(parts[shard], batch):
            _count(confusion, networks, dataset, part, world.device)
    scores = [_score(counts) for counts in world.sum_counts(confusion).cpu()]
    return Evaluation(scores[0], scores[1] if len(scores) > 1 else None)


def _count(
    confusion: Tensor, networks: list[FlatNetwork], dataset: Dataset, part: Tensor, device: torch.device
) -> None:
    if not len(part):
        return
    pixels = to_unit_range(dataset.test.fetch(part))
    images = to_channels(normalize(pixels, dataset.mean.to(device), dataset.std.to(device)), INPUT_CHANNELS)
    classes = dataset.test_classes[part].to(device)
    for counts, network in zip(confusion, networks, strict=True):
        predicted = network.predict(images).argmax(dim=1)
        counts.index_put_((classes, predicted), torch.ones_like(predicted), accumulate=True)


def _score(confusion: Tensor) -> Score:
    right, of_class = confusion.diagonal(), confusion.sum(dim=1)
    per_class = [hits / count if count else None for hits, count in zip(right.tolist(), of_class.tolist(), strict=True)]
    return Score(int(right.sum()) / int(of_class.sum()), per_class, confusion.tolist())
