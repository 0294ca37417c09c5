"""Where images are read from when the device does not hold them all: arrays in memory or on disk, image files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trainer.data.dataset import Array, UnreadableImage
from trainer.data.image_file import ImageFile, is_still
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
    """Image files, decoded as they are read; each has to hold what it held at the look: sha256 is uint8 [N, 32]."""

    files: Sequence[ImageFile]
    sha256: Array
    px: int

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Array) -> Tensor:
        """As `Source.read`; raises AlteredImage too."""
        pixels = np.empty((len(indices), 3, self.px, self.px), dtype=np.uint8)
        for row, index in enumerate(indices.tolist()):
            pixels[row] = self._decode(index)
        return torch.from_numpy(pixels)

    def _decode(self, index: int) -> Array:
        from trainer.data.decode import decode_from, open_image  # Pillow's import is time that others need not spend

        image_file = self.files[index]
        with open_image(image_file.path) as file:
            image = decode_from(file, image_file.path, self.px)
            if not is_still(file, image_file.stamp, self.sha256[index].tobytes()):
                raise AlteredImage(image_file.path)
        return image


class AlteredImage(Exception):
    """A file that holds another image than before."""


@dataclass(frozen=True)
class Attempt:
    """Reads from a source; an image that cannot be read comes as a sentence, which passes between processes whole."""

    source: Source

    def __call__(self, indices: Array) -> Tensor | str:
        try:
            return self.source.read(indices)
        except UnreadableImage as error:
            return f"an image can no longer be read, though it could when it was looked at first: {error}; put it back"
        except AlteredImage as error:
            return f"an image is no longer what it was when it was looked at first: {error}; put that one back"


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
