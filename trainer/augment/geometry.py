"""Flip, shift, rotation, scale, shear and crop.

Where an image is only mirrored and shifted, its pixels are moved as they are, by whole pixels, and what comes in over
the border is the image reflected, as in Mean Teacher's CIFAR-10 runs. Anything else is an affine map a sample, and
all maps of a sample become one, so that it is interpolated once; its background is continued from the border.

A map is float32 [N, 2, 3], from a view's coordinates to the image's, both -1..1 from edge to edge.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.augment.draws import between, whole, within
from trainer.config import Augmentation

WIDEST_CROP = 4 / 3
"""A crop's width by its height is drawn from 3/4 to this (Szegedy et al. 2015, section 6)."""


def interpolates(setting: Augmentation) -> bool:
    """Whether what is asked for leaves no pixel as it is."""
    return bool(setting.rotate_degrees or setting.scale or setting.shear or setting.crop_area < 1)


def move(images: Tensor, flips: bool, shift_px: int, draws: torch.Generator) -> Tensor:
    """Mirror half of the images and shift each by whole pixels, up to shift_px each way, exactly."""
    n, channels, height, width = images.shape
    down, right = whole(n, -shift_px, shift_px, draws), whole(n, -shift_px, shift_px, draws)
    rows = _reflected(torch.arange(height, device=images.device) - down[:, None], height)
    columns = _reflected(torch.arange(width, device=images.device) - right[:, None], width)
    if flips:
        columns = torch.where(within(n, 1.0, draws)[:, None] < 0, width - 1 - columns, columns)
    sources = (rows[:, :, None] * width + columns[:, None, :]).view(n, 1, height * width)
    return images.flatten(2).gather(2, sources.expand(-1, channels, -1)).view(images.shape)


def affine_maps(images: Tensor, setting: Augmentation, flips: bool, draws: torch.Generator) -> Tensor:
    """Maps that mirror, shift, turn, scale and slant; the shift is by whole pixels if nothing else interpolates."""
    n, _, height, width = images.shape
    shift_px = setting.translation_px(height)
    angle = within(n, math.radians(setting.rotate_degrees), draws)
    zoom_x, zoom_y = within(n, setting.scale, draws) + 1, within(n, setting.scale, draws) + 1
    slant = within(n, setting.shear, draws)
    if interpolates(setting):
        shift_x, shift_y = within(n, shift_px * 2 / width, draws), within(n, shift_px * 2 / height, draws)
    else:
        shift_x, shift_y = (whole(n, -shift_px, shift_px, draws) * (2 / size) for size in (width, height))
    mirror = torch.ones_like(angle)
    if flips:
        mirror = torch.where(within(n, 1.0, draws) < 0, -mirror, mirror)
    cos, sin = angle.cos(), angle.sin()
    row_x = torch.stack([mirror * zoom_x * cos, zoom_x * (slant * cos - sin), shift_x], dim=1)
    row_y = torch.stack([mirror * zoom_y * sin, zoom_y * (slant * sin + cos), shift_y], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def crop_maps(n: int, smallest_area: float, draws: torch.Generator) -> Tensor:
    """Maps of a part of each image onto the whole view: its area, then its shape, then its place are uniform.

    The shape, the logarithm of width by height, is bounded by what still lies within the image, so no crop is smaller.
    """
    area = between(n, smallest_area, 1, draws)
    shape = within(n, 1.0, draws) * (-area.log()).clamp(max=math.log(WIDEST_CROP))
    # Rounding must not make a side longer than the image.
    width, height = ((area * (sign * shape).exp()).sqrt().clamp(max=1) for sign in (1, -1))
    left, top = (within(n, 1.0, draws) * (1 - side) for side in (width, height))
    none = torch.zeros_like(area)
    return torch.stack([torch.stack([width, none, left], dim=1), torch.stack([none, height, top], dim=1)], dim=1)


def chain(outer: Tensor, inner: Tensor) -> Tensor:
    """The maps that do `inner`, then `outer`, to a coordinate; no matrix product, which a GPU may round to TF32."""
    both = (outer[:, :, :2, None] * inner[:, None, :, :]).sum(dim=2)
    return both + F.pad(outer[:, :, 2:], (2, 0))


def resample(images: Tensor, maps: Tensor) -> Tensor:
    """The views that the maps describe, by bilinear interpolation.

    The coordinates are computed here and not by affine_grid, whose matrix product autocast would round to bfloat16:
    off by up to a pixel at 224 px.
    """
    height, width = images.shape[-2:]
    x, y = (torch.linspace(1 / size - 1, 1 - 1 / size, size, device=images.device) for size in (width, height))
    slopes, starts = maps[:, None, None, :, 0], maps[:, :, 1, None] * y + maps[:, :, 2, None]
    grid = torch.addcmul(starts.transpose(1, 2)[:, :, None, :], slopes, x[:, None])
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _reflected(positions: Tensor, size: int) -> Tensor:
    """Positions beyond 0..size - 1 counted back from the border, which is not repeated."""
    period = max(1, 2 * (size - 1))
    inside = positions.remainder(period)
    return torch.minimum(inside, period - inside)
