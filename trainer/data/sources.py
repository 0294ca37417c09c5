"""Where images are read from when the device does not hold them all: arrays in memory or on disk, image files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trainer.data.dataset import Array, UnreadableImage
from trainer.data.loader import worker_count
from trainer.errors import TrainerError


class Source(Protocol):
    """Images of one size that are read by index; a loader process can do it."""

    def __len__(self) -> int: ...

    def read(self, indices: Array) -> Tensor:
        """uint8 [n, C, H, W] on the CPU, for int64 indices [n]; raises UnreadableImage."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """Decoded images, uint8 [N, C, H, W], as a rule a file that is mapped into memory."""

    array: Array

    def __len__(self) -> int:
        return len(self.array)

    def read(self, indices: Array) -> Tensor:
        return torch.from_numpy(self.array[indices])


@dataclass(frozen=True)
class FileSource:
    """Image files, decoded as they are read."""

    paths: Sequence[Path]
    px: int

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: Array) -> Tensor:
        from trainer.data.decode import decode  # Pillow's import is time that other data sets need not spend

        pixels = np.empty((len(indices), 3, self.px, self.px), dtype=np.uint8)
        for row, index in enumerate(indices.tolist()):
            pixels[row] = decode(self.paths[index], self.px)
        return torch.from_numpy(pixels)


@dataclass(frozen=True)
class Attempt:
    """Reads from a source; an image that cannot be read comes as a sentence, which passes between processes whole."""

    source: Source

    def __call__(self, indices: Array) -> Tensor | str:
        try:
            return self.source.read(indices)
        except UnreadableImage as error:
            return f"an image can no longer be read, though it could when it was looked at first: {error}; put it back"


@dataclass(frozen=True)
class StreamedPixels:
    """Images that stay where they are, and come to the device as they are fetched."""

    source: Source
    device: torch.device

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, indices: Tensor) -> Tensor:
        """As `Pixels.fetch`, by several threads: Pillow decodes without holding the others up. Raises TrainerError."""
        threads = min(worker_count("auto"), max(1, len(indices)))
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(Attempt(self.source), np.array_split(indices.numpy(), threads)))
        return torch.cat([pixels_or_raise(part) for part in parts]).to(self.device)


def pixels_or_raise(attempt: Tensor | str) -> Tensor:
    """The pixels of an attempt; raises TrainerError when it failed."""
    if isinstance(attempt, str):
        raise TrainerError(attempt)
    return attempt
