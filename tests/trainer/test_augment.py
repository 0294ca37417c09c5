"""Every sample is drawn for itself, by its key, and stays an image."""

import pytest
import torch

from trainer.augment import add_noise, augment, normalize, to_channels, to_unit_range
from trainer.config import Augmentation
from trainer.keys import Purpose, generator

CALM = {"flip": False, "translate_px": 0, "rotate_degrees": 0.0, "scale": 0.0, "shear": 0.0, "noise": 0.0}


def draws(step: int = 0, shard: int = 0, purpose: Purpose = Purpose.STUDENT_VIEW) -> torch.Generator:
    return generator(0, purpose, step, shard)


def images(n: int = 64) -> torch.Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_nothing_asked_nothing_changed() -> None:
    assert torch.equal(augment(images(), Augmentation.model_validate(CALM), draws(), mirrors=True), images())


@pytest.mark.parametrize("setting", [{"translate_px": 2}, {"rotate_degrees": 20.0}, {"scale": 0.2}, {"shear": 0.3}])
def test_a_view_depends_on_its_key_and_nothing_else(setting: dict[str, float]) -> None:
    chosen = Augmentation.model_validate(CALM | setting)
    view = augment(images(), chosen, draws(), mirrors=True)
    assert torch.equal(view, augment(images(), chosen, draws(), mirrors=True))
    for other in (draws(step=1), draws(shard=1), draws(purpose=Purpose.TEACHER_VIEW)):
        assert not torch.allclose(view, augment(images(), chosen, other, mirrors=True))


def test_samples_of_a_batch_are_drawn_apart() -> None:
    same = images(1).expand(64, -1, -1, -1)
    view = augment(same, Augmentation.model_validate(CALM | {"translate_px": 2}), draws(), mirrors=True)
    assert len({tuple(image.flatten().tolist()) for image in view}) == 64


def test_flip_mirrors_about_half_of_the_images_exactly() -> None:
    view = augment(images(200), Augmentation.model_validate(CALM | {"flip": True}), draws(), mirrors=True)
    same = (view - images(200)).abs().amax(dim=(1, 2, 3)) < 1e-5
    mirrored = (view - images(200).flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert bool((same | mirrored).all())
    assert 70 < int(mirrored.sum()) < 130


def test_translation_stays_within_its_bound() -> None:
    # A ramp shifted by d pixels changes by d where the border is not in reach.
    ramp = torch.arange(8.0).expand(500, 1, 8, 8)
    view = augment(ramp, Augmentation.model_validate(CALM | {"translate_px": 2}), draws(), mirrors=True)
    shift = view[:, 0, 4, 3] - 3
    assert float(shift.abs().max()) <= 2
    assert float(shift.min()) < -1.8
    assert float(shift.max()) > 1.8


def test_noise_has_the_deviation_asked_for() -> None:
    flat = torch.zeros(500, 1, 8, 8)
    view = add_noise(flat, 0.3, draws())
    assert float(view.std()) == pytest.approx(0.3, rel=0.02)


def test_grey_images_fill_the_channels_after_augmentation() -> None:
    assert to_channels(images(2), 3).shape == (2, 3, 8, 8)
    assert torch.equal(to_channels(images(2), 3)[:, 0], to_channels(images(2), 3)[:, 2])
    assert to_channels(torch.zeros(2, 3, 8, 8), 3).shape == (2, 3, 8, 8)


def test_normalize_gives_zero_mean_and_unit_deviation() -> None:
    pixels = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    half = torch.tensor([0.5])
    assert normalize(to_unit_range(pixels), half, half).flatten().tolist() == [-1.0, 1.0]
