"""A square of each image blanked (DeVries and Taylor 2017)."""

import torch
from torch import Tensor

from trainer.augment.draws import whole


def cutout(images: Tensor, share: float, fill: Tensor, draws: torch.Generator) -> Tensor:
    """Blank a square, its side this share of the height, around a random pixel of each image.

    Near the border only a part of the square lies within the image. fill: what is put there, float32 [C].
    """
    n, _, height, width = images.shape
    side = round(share * height)
    if not side:
        return images
    rows, columns = (_covered(size, side, whole(n, 0, size - 1, draws)) for size in (height, width))
    blank = rows[:, :, None] & columns[:, None, :]
    return torch.where(blank[:, None], fill[:, None, None], images)


def _covered(size: int, side: int, centres: Tensor) -> Tensor:
    """bool [N, size]: which pixels of a row lie within a stretch of length `side` around each centre."""
    offset = torch.arange(size, device=centres.device) - (centres - side // 2)[:, None]
    return (offset >= 0) & (offset < side)
