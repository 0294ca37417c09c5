"""One random view of each image."""

import torch
from torch import Tensor

from trainer.augment import strong
from trainer.augment.colour import jitter
from trainer.augment.cutout import cutout
from trainer.augment.geometry import affine_maps, chain, crop_maps, interpolates, move, resample
from trainer.config import Augmentation


def augment(images: Tensor, setting: Augmentation, draws: torch.Generator, *, mirrors: bool, fill: Tensor) -> Tensor:
    """One random view of each image of a float32 [N, C, H, W] in 0..1, C being 1 or 3.

    mirrors: whether mirror images are of the same class, which `flip: auto` asks. fill: what a blanked square becomes,
    the data set's mean, float32 [C].
    """
    extras = strong.draw(len(images), draws) if setting.policy == "strong" else []
    images = _reshape(images, setting, extras, setting.flips(mirrors), draws)
    images = jitter(images, setting, draws)
    for extra in extras:
        images = strong.recolour(images, extra)
    return cutout(images, setting.cutout, fill, draws)


def _reshape(
    images: Tensor, setting: Augmentation, extras: list[strong.Extra], flips: bool, draws: torch.Generator
) -> Tensor:
    """Cropped, then mirrored, shifted, turned, scaled and slanted, then what the strong policy adds."""
    shift_px = setting.translation_px(images.shape[-2])
    if not interpolates(setting) and not extras:
        return move(images, flips, shift_px, draws) if flips or shift_px else images
    maps = affine_maps(images, setting, flips, draws)
    if setting.crop_area < 1:
        maps = chain(crop_maps(len(images), setting.crop_area, draws), maps)
    for extra in extras:
        maps = chain(maps, strong.shape_maps(images, extra))
    return resample(images, maps)
