"""What the tests of augmentation share: settings that ask for one thing, keys, images."""

from typing import Any

import torch
from torch import Tensor

from trainer.augment import augment
from trainer.config import Augmentation
from trainer.keys import Purpose, generator

CALM = {"flip": False, "translate_px": 0, "noise": 0.0}

EVERYTHING: dict[str, dict[str, Any]] = {
    "flip": {"flip": True},
    "translate": {"translate_px": 2},
    "rotate": {"rotate_degrees": 20.0},
    "scale": {"scale": 0.2},
    "shear": {"shear": 0.3},
    "crop": {"crop_area": 0.3},
    "brightness": {"brightness": 0.5},
    "contrast": {"contrast": 0.5},
    "saturation": {"saturation": 0.5},
    "hue": {"hue": 0.2},
    "cutout": {"cutout": 0.5},
    "strong": {"policy": "strong"},
    "all": {
        "flip": True,
        "translate_px": 2,
        "rotate_degrees": 20.0,
        "scale": 0.2,
        "shear": 0.3,
        "crop_area": 0.3,
        "brightness": 0.5,
        "contrast": 0.5,
        "saturation": 0.5,
        "hue": 0.2,
        "cutout": 0.5,
        "policy": "strong",
    },
}
"""Every setting alone, and all of them at once."""


def asking(**settings: Any) -> Augmentation:
    """A setting that asks for this and nothing else."""
    return Augmentation.model_validate(CALM | settings)


def draws(step: int = 0, shard: int = 0, purpose: Purpose = Purpose.STUDENT_VIEW) -> torch.Generator:
    """The generator of a view."""
    return generator(0, purpose, step, shard)


def noise_images(n: int = 64, channels: int = 3, px: int = 8) -> Tensor:
    """Images of independent pixels in 0..1."""
    return torch.rand(n, channels, px, px, generator=torch.Generator().manual_seed(0))


def view(images: Tensor, setting: Augmentation, key: torch.Generator | None = None, mirrors: bool = True) -> Tensor:
    """A view of the images, blanked squares becoming one half."""
    fill = torch.full((images.shape[1],), 0.5)
    return augment(images, setting, key or draws(), mirrors=mirrors, fill=fill)
