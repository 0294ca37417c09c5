"""Colour jitter: brightness, contrast, saturation, hue, always in this order; grey images have the first two.

Images are float32 [N, C, H, W] in 0..1 before and after each step.
"""

import torch
from torch import Tensor

from trainer.augment.draws import between, within
from trainer.config import Augmentation

LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue in the grey that they look like (ITU-R BT.601)."""


def jitter(images: Tensor, setting: Augmentation, draws: torch.Generator) -> Tensor:
    """Each image changed by factors of its own; only what is asked for is drawn."""
    n, coloured = len(images), images.shape[1] == 3

    def factors(bound: float) -> Tensor:
        return between(n, 1 - bound, 1 + bound, draws)[:, None, None, None]

    if setting.brightness:
        images = (images * factors(setting.brightness)).clamp_(0, 1)
    if setting.contrast:
        images = blend(mean_grey(images), images, factors(setting.contrast))
    if setting.saturation and coloured:
        images = blend(grey(images), images, factors(setting.saturation))
    if setting.hue and coloured:
        images = turn_hue(images, within(n, setting.hue, draws))
    return images


def blend(origin: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Each pixel's distance from an origin, such as its own grey, times a factor: 0 gives the origin, 1 the image."""
    return torch.lerp(origin, images, factors).clamp_(0, 1)


def grey(images: Tensor) -> Tensor:
    """[N, 1, H, W]: how bright each pixel looks."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (images[:, channel, None] * share for channel, share in enumerate(LUMINANCE))
    return red + green + blue


def mean_grey(images: Tensor) -> Tensor:
    """[N, 1, 1, 1]: how bright each image looks."""
    return grey(images).mean(dim=(2, 3), keepdim=True)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """RGB images with hue [N] advanced by so many turns of the colour circle; saturation and value of HSV stay."""
    red, green, blue = images.unbind(dim=1)
    value, chroma = images.amax(dim=1), images.amax(dim=1) - images.amin(dim=1)
    # Which sixth of the circle, from red: the smaller two colours say where in it; grey has no hue, and any will do.
    scale = chroma.clamp(min=torch.finfo(chroma.dtype).tiny)
    sixth = torch.where(
        value == red,
        (green - blue) / scale,
        torch.where(value == green, (blue - red) / scale + 2, (red - green) / scale + 4),
    )
    sixth = sixth + 6 * turns[:, None, None]
    # Each colour is full over a third of the circle, absent over another, and in between rises and falls linearly.
    starts = 5 - 2 * torch.arange(3, device=images.device)[:, None, None]
    phase = (sixth[:, None] + starts).remainder_(6)
    absence = torch.minimum(phase, 4 - phase).clamp_(0, 1)
    return value[:, None] - chroma[:, None] * absence
