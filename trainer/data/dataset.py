"""Images and labels, however they are kept."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import DatasetFacts

Array = NDArray[Any]


class UnreadableImage(Exception):
    """A file that cannot be read as an image, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} ({reason})")
        self.reason = reason


class Pixels(Protocol):
    """Images of one size that are fetched by index."""

    def __len__(self) -> int: ...

    def fetch(self, indices: Tensor) -> Tensor:
        """uint8 [n, C, H, W] on the run's device, for int64 indices [n] on the CPU."""
        ...


@dataclass(frozen=True)
class ResidentPixels:
    """All images in the memory of the device: uint8 [N, C, H, W]."""

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def fetch(self, indices: Tensor) -> Tensor:
        return self.pixels[indices.to(self.pixels.device, non_blocking=True)]


@dataclass(frozen=True)
class Dataset:
    """A data set, split.

    train: the training images, then those that come without labels.
    train_classes, test_classes: int64 on the CPU, of the training images that have a label, and of the test images.
    mean, std: of the training pixels scaled to 0..1, by channel: float32 [C].
    names: of the training images, where they have any, in the order of their indices.
    fingerprint: tells whether these are the images that a checkpoint was trained on.
    remarks: what a person should be told once, such as images that were skipped.
    """

    facts: DatasetFacts
    train: Pixels
    train_classes: Tensor
    test: Pixels
    test_classes: Tensor
    mean: Tensor
    std: Tensor
    class_names: tuple[str, ...]
    fingerprint: str
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by channel of uint8 [N, C, H, W] scaled to 0..1: exact sums, so the same anywhere."""
    return statistics_of(channel_counts(pixels))


def channel_counts(pixels: Tensor) -> Tensor:
    """How often each channel has each of the 256 values: int64 [C, 256], to be added up over many images."""
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in pixels.transpose(0, 1)])


def statistics_of(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by channel, float32 [C] each, from how often there is which value."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for of_value in counts.double():
        mean = (of_value * values).sum() / of_value.sum()
        means.append(mean)
        deviations.append(((of_value * (values - mean) ** 2).sum() / of_value.sum()).sqrt())
    return torch.stack(means).float(), torch.stack(deviations).float().clamp(min=1e-3)
