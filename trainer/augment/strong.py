"""Two further operations a sample, drawn from a list with their strengths: what `policy: strong` adds.

After RandAugment (Cubuk et al. 2020) as FixMatch uses it (Sohn et al. 2020, appendix D), with RandAugment's list and
ranges, and strengths uniform over the range. Shapes join the view's own affine map, so they come before the colours,
and their background is continued from the border. FixMatch's cutout is a setting of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.augment.colour import blend, grey, mean_grey
from trainer.augment.draws import whole, within

EXTRAS = 2
LARGEST_ANGLE = math.radians(30)
LARGEST_SHEAR = 0.3
LARGEST_SHIFT = 0.3
"""Of the image's size."""
LARGEST_CHANGE = 0.9
"""Of a factor of brightness, contrast, colour or sharpness: 0.1 to 1.9."""
FEWEST_BITS = 4
LEVELS = 256
"""Of a stored pixel."""


class Operation(IntEnum):
    """What may be drawn, all equally often."""

    IDENTITY = 0
    ROTATE = 1
    SHEAR_X = 2
    SHEAR_Y = 3
    TRANSLATE_X = 4
    TRANSLATE_Y = 5
    BRIGHTNESS = 6
    CONTRAST = 7
    COLOUR = 8
    SHARPNESS = 9
    AUTOCONTRAST = 10
    EQUALIZE = 11
    POSTERIZE = 12
    SOLARIZE = 13


@dataclass(frozen=True)
class Extra:
    """One operation for each sample: int64 [N], an Operation, and float32 [N] in -1..1, how much of it."""

    operations: Tensor
    strengths: Tensor


def draw(n: int, draws: torch.Generator) -> list[Extra]:
    """Operations for n samples, in the order in which they are done."""
    return [Extra(whole(n, 0, len(Operation) - 1, draws), within(n, 1.0, draws)) for _ in range(EXTRAS)]


def shape_maps(images: Tensor, extra: Extra) -> Tensor:
    """Affine maps, as in `geometry`, for samples whose operation is one of shape; elsewhere the identity."""

    def chosen(operation: Operation, largest: float) -> Tensor:
        return torch.where(extra.operations == operation, extra.strengths * largest, 0.0)

    angle = chosen(Operation.ROTATE, LARGEST_ANGLE)
    cos, sin = angle.cos(), angle.sin()
    slant_x, slant_y = chosen(Operation.SHEAR_X, LARGEST_SHEAR), chosen(Operation.SHEAR_Y, LARGEST_SHEAR)
    height, width = images.shape[-2:]
    # By whole pixels, which blurs nothing.
    shift_x = chosen(Operation.TRANSLATE_X, LARGEST_SHIFT * width).round() * (2 / width)
    shift_y = chosen(Operation.TRANSLATE_Y, LARGEST_SHIFT * height).round() * (2 / height)
    # At most one of these differs from the identity, so they can be written into one matrix.
    row_x = torch.stack([cos, slant_x - sin, shift_x], dim=1)
    row_y = torch.stack([slant_y + sin, cos, shift_y], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def recolour(images: Tensor, extra: Extra) -> Tensor:
    """The images after those operations that are of colour; float32 in 0..1 before and after."""
    return _recolour_chosen(images, extra) if images.device.type == "cpu" else _recolour_all(images, extra)


def _recolour_chosen(images: Tensor, extra: Extra) -> Tensor:
    """Each operation done to its own samples alone: the least work."""
    result = images.clone()
    for operation, apply in _RECOLOURINGS.items():
        samples = (extra.operations == operation).nonzero().squeeze(1)
        if len(samples):
            result[samples] = apply(images[samples], extra.strengths[samples, None, None, None])
    return result


def _recolour_all(images: Tensor, extra: Extra) -> Tensor:
    """Each operation done to all, and taken where it was drawn: the host never waits to learn which a GPU has drawn."""
    result, strengths = images, extra.strengths[:, None, None, None]
    for operation, apply in _RECOLOURINGS.items():
        drawn = (extra.operations == operation)[:, None, None, None]
        result = torch.where(drawn, apply(images, strengths), result)
    return result


def _brighten(images: Tensor, strengths: Tensor) -> Tensor:
    return (images * _factors(strengths)).clamp_(0, 1)


def _contrast(images: Tensor, strengths: Tensor) -> Tensor:
    return blend(mean_grey(images), images, _factors(strengths))


def _saturate(images: Tensor, strengths: Tensor) -> Tensor:
    return blend(grey(images), images, _factors(strengths))


def _sharpen(images: Tensor, strengths: Tensor) -> Tensor:
    """Away from, or towards, an image smoothed by 3 x 3 weights of 1 around a 5, the border repeated."""
    sums = 9 * F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return blend((sums + 4 * images) / 13, images, _factors(strengths))


def _autocontrast(images: Tensor, _strengths: Tensor) -> Tensor:
    """Each channel stretched to 0..1; one of a single value stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low), images)


def _equalize(images: Tensor, _strengths: Tensor) -> Tensor:
    """Each channel's values replaced by the share of its pixels that are darker or alike, the darkest by 0."""
    levels = _levels(images).long().flatten(2)
    # Whole numbers: their sums are the same in any order.
    one = torch.ones((), dtype=torch.int32, device=images.device)
    counts = torch.zeros(*levels.shape[:2], LEVELS, dtype=torch.int32, device=images.device)
    ranks = counts.scatter_add_(2, levels, one.expand_as(levels)).cumsum(2, dtype=torch.int32)
    darkest, pixels = ranks.gather(2, levels.amin(dim=2, keepdim=True)), levels.shape[2]
    shares = (ranks - darkest) / (pixels - darkest)
    return torch.where((darkest < pixels)[..., None], shares.gather(2, levels).view_as(images), images)


def _posterize(images: Tensor, strengths: Tensor) -> Tensor:
    """The upper 4 to 8 bits of each pixel kept."""
    bits = (FEWEST_BITS + (strengths + 1) / 2 * (9 - FEWEST_BITS)).floor().clamp(max=8)
    step = torch.exp2(8 - bits)
    return (_levels(images) / step).floor() * step / (LEVELS - 1)


def _solarize(images: Tensor, strengths: Tensor) -> Tensor:
    """What is at least as bright as a threshold in 0..1 inverted."""
    return torch.where(images < (strengths + 1) / 2, images, 1 - images)


def _factors(strengths: Tensor) -> Tensor:
    return 1 + LARGEST_CHANGE * strengths


def _levels(images: Tensor) -> Tensor:
    """Each pixel as it would be stored: float32, whole numbers in 0..255."""
    return (images * (LEVELS - 1)).round()


_RECOLOURINGS: dict[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    Operation.BRIGHTNESS: _brighten,
    Operation.CONTRAST: _contrast,
    Operation.COLOUR: _saturate,
    Operation.SHARPNESS: _sharpen,
    Operation.AUTOCONTRAST: _autocontrast,
    Operation.EQUALIZE: _equalize,
    Operation.POSTERIZE: _posterize,
    Operation.SOLARIZE: _solarize,
}
