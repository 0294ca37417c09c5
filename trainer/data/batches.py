"""The images of a step, shard by shard, as the training step asks for them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainer.config import Loading
from trainer.data.dataset import Dataset, Pixels
from trainer.data.sources import StreamedPixels
from trainer.sampling import Sampler


@dataclass(frozen=True)
class Batch:
    """A shard's images, uint8 [n, C, H, W], the labelled ones first, and the classes of those, int64; on the device."""

    pixels: Tensor
    classes: Tensor


class Batches(Protocol):
    """wait_s: how long `take` has kept the training loop waiting for images, all in all."""

    wait_s: float

    def take(self, step: int, shard: int) -> Batch:
        """The images of one shard at one step; quickest when steps and shards are asked for in order."""
        ...

    def close(self) -> None:
        """End what prepares images."""
        ...


class ResidentBatches:
    """From images that are in the device's memory."""

    def __init__(self, dataset: Dataset, sampler: Sampler, device: torch.device) -> None:
        self._pixels: Pixels = dataset.train
        self._classes = dataset.train_classes.to(device)
        self._sampler, self._device = sampler, device
        self.wait_s = 0.0

    def take(self, step: int, shard: int) -> Batch:
        start = time.perf_counter()
        labelled = self._sampler.labelled(step, shard)
        unlabelled = self._sampler.unlabelled(step, shard)
        pixels = self._pixels.fetch(torch.cat([labelled, unlabelled]))
        # non_blocking: else the host would wait for all that the device has still to do, and call it waiting for data
        classes = self._classes[labelled.to(self._device, non_blocking=True)]
        self.wait_s += time.perf_counter() - start
        return Batch(pixels, classes)

    def close(self) -> None:
        pass


def open_batches(
    setting: Loading, dataset: Dataset, sampler: Sampler, shards: Sequence[int], step: int, device: torch.device
) -> Batches:
    """The batches of these shards from a step on."""
    if isinstance(dataset.train, StreamedPixels):
        from trainer.data.stream import StreamedBatches  # which imports this module

        return StreamedBatches(setting, dataset.train.source, dataset.train_classes, sampler, shards, step, device)
    return ResidentBatches(dataset, sampler, device)
