"""What is read of image files when all are gone through; loader processes can do it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.data.dataset import Array, UnreadableImage
from trainer.data.decode import decode_from, open_image
from trainer.data.image_file import DIGEST_BYTES, Stamp, is_still, sha256_of

WRITTEN_TO = "written to while it was read"


@dataclass(frozen=True)
class Decoding:
    """Decodes files by their indices: the pixels of those that can be read, the SHA-256 of all, uint8 [n, 32], zeros
    where there is none, and why the others cannot be read.

    keep: whether the pixels are wanted, or only whether they can be had.
    """

    paths: list[Path]
    px: int
    keep: bool

    def __call__(self, indices: Array) -> tuple[Tensor, Tensor, dict[int, str]]:
        pixels, failures = [np.empty((0, 3, self.px, self.px), np.uint8)], dict[int, str]()
        digests = _no_digests(len(indices))
        for row, index in enumerate(indices.tolist()):
            try:
                image = self._decode(self.paths[index], digests[row])
            except UnreadableImage as error:
                failures[index] = error.reason
            else:
                pixels += [image[np.newaxis]] if self.keep else []
        return torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(digests), failures

    def _decode(self, path: Path, digest: Array) -> Array:
        """The pixels; the SHA-256 of what they were decoded from goes into `digest`."""
        with open_image(path) as file:
            stamp, sha256 = Stamp.of_open(file), sha256_of(file)
            digest[:] = np.frombuffer(sha256, np.uint8)
            image = decode_from(file, path, self.px)
            if not is_still(file, stamp, sha256):
                digest[:] = 0
                raise UnreadableImage(path, WRITTEN_TO)
        return image


@dataclass(frozen=True)
class Digesting:
    """The SHA-256 of files by their indices, as `Decoding` gives them."""

    paths: list[Path]

    def __call__(self, indices: Array) -> Tensor:
        digests = _no_digests(len(indices))
        for row, index in enumerate(indices.tolist()):
            try:
                with open_image(self.paths[index]) as file:
                    digests[row] = np.frombuffer(sha256_of(file), np.uint8)
            except UnreadableImage:
                continue
        return torch.from_numpy(digests)


def _no_digests(count: int) -> Array:
    return np.zeros((count, DIGEST_BYTES), np.uint8)
