"""What a network sees of an image: every sample drawn for itself, by tensor operations on the images' own device.

Student and teacher each get a view of their own; the draws of a view come from the generator that is passed in.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import Augmentation


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 [N, C, H, W] to float32 in 0..1."""
    return pixels.float().div_(255)


def augment(images: Tensor, setting: Augmentation, draws: torch.Generator, *, mirrors: bool) -> Tensor:
    """One random view of each image of a float32 [N, C, H, W] in 0..1; the background is continued from the border.

    mirrors: whether mirror images are of the same class, which `flip: auto` asks.
    """
    flips, shift_px = setting.flips(mirrors), setting.translation_px(images.shape[-2])
    if flips or shift_px or setting.rotate_degrees or setting.scale or setting.shear:
        grid = F.affine_grid(
            _transforms(images, setting, draws, flips, shift_px), list(images.shape), align_corners=False
        )
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return images


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float32 [N, C, H, W] in 0..1 to zero mean and unit deviation over the training images, by channel."""
    return (images - mean[:, None, None]) / std[:, None, None]


def add_noise(images: Tensor, deviation: float, draws: torch.Generator) -> Tensor:
    """The images with Gaussian noise of this standard deviation."""
    if not deviation:
        return images
    return images + deviation * torch.randn(images.shape, generator=draws, device=images.device)


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Grey images repeated into the channels that the network expects."""
    return images.expand(-1, channels, -1, -1) if images.shape[1] == 1 else images


def _transforms(images: Tensor, setting: Augmentation, draws: torch.Generator, flips: bool, shift_px: int) -> Tensor:
    """Affine maps [N, 2, 3] from a view's coordinates (-1..1) to the image's, one a sample."""
    n, _, height, width = images.shape

    def uniform(bound: float) -> Tensor:
        return (torch.rand(n, generator=draws, device=images.device) * 2 - 1) * bound

    angle = uniform(math.radians(setting.rotate_degrees))
    zoom_x, zoom_y = uniform(setting.scale) + 1, uniform(setting.scale) + 1
    slant = uniform(setting.shear)
    shift_x, shift_y = uniform(shift_px * 2 / width), uniform(shift_px * 2 / height)
    mirror = torch.ones_like(angle)
    if flips:
        mirror = torch.where(uniform(1.0) < 0, -mirror, mirror)
    cos, sin = angle.cos(), angle.sin()
    row_x = torch.stack([mirror * zoom_x * cos, zoom_x * (slant * cos - sin), shift_x], dim=1)
    row_y = torch.stack([mirror * zoom_y * sin, zoom_y * (slant * sin + cos), shift_y], dim=1)
    return torch.stack([row_x, row_y], dim=1)
