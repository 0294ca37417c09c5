"""Every sample is drawn for itself, by its key, and stays an image."""

from typing import Any

import pytest
import torch

from tests.trainer.views import EVERYTHING, asking, draws, noise_images, view
from trainer.augment import add_noise, normalize, to_channels, to_unit_range
from trainer.keys import Purpose

each_setting = pytest.mark.parametrize("setting", EVERYTHING.values(), ids=EVERYTHING.keys())


def test_nothing_asked_nothing_changed() -> None:
    assert torch.equal(view(noise_images(), asking()), noise_images())


@each_setting
def test_a_view_depends_on_its_key_and_nothing_else(setting: dict[str, Any]) -> None:
    chosen, images = asking(**setting), noise_images()
    once = view(images, chosen)
    torch.rand(1)  # the global generator has no part in it
    assert torch.equal(once, view(images, chosen))
    for other in (draws(step=1), draws(shard=1), draws(purpose=Purpose.TEACHER_VIEW)):
        assert not torch.allclose(once, view(images, chosen, other))


@each_setting
def test_samples_of_a_batch_are_drawn_apart(setting: dict[str, Any]) -> None:
    same = noise_images(1).expand(64, -1, -1, -1)
    different = {tuple(image.flatten().tolist()) for image in view(same, asking(**setting))}
    # There are 2 ways to flip and 25 shifts of whole pixels; a third of the strong operations may change nothing.
    assert len(different) >= {"flip": 2, "translate_px": 16}.get("".join(setting), 40)


@each_setting
def test_a_sample_s_view_does_not_depend_on_the_other_images(setting: dict[str, Any]) -> None:
    images, others = noise_images(), noise_images().flip(0)
    others[5] = images[5]
    assert torch.allclose(view(images, asking(**setting))[5], view(others, asking(**setting))[5], atol=1e-6)


@each_setting
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("px", [8, 17])
def test_a_view_is_an_image_again(setting: dict[str, Any], channels: int, px: int) -> None:
    seen = view(noise_images(200, channels, px), asking(**setting))
    assert seen.shape == (200, channels, px, px)
    assert seen.dtype == torch.float32
    assert seen.min() >= -1e-6  # interpolation's weights add up to 1 within rounding
    assert seen.max() <= 1 + 1e-6


@each_setting
def test_the_images_themselves_stay(setting: dict[str, Any]) -> None:
    images = noise_images()
    view(images, asking(**setting))
    assert torch.equal(images, noise_images())


@each_setting
def test_autocast_of_the_network_does_not_reach_the_view(setting: dict[str, Any]) -> None:
    plain = view(noise_images(), asking(**setting))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(view(noise_images(), asking(**setting)), plain)


def test_noise_has_the_deviation_asked_for() -> None:
    flat = torch.zeros(500, 1, 8, 8)
    assert float(add_noise(flat, 0.3, draws()).std()) == pytest.approx(0.3, rel=0.02)


def test_grey_images_fill_the_channels_after_augmentation() -> None:
    grey = noise_images(2, channels=1)
    assert to_channels(grey, 3).shape == (2, 3, 8, 8)
    assert torch.equal(to_channels(grey, 3)[:, 0], to_channels(grey, 3)[:, 2])
    assert to_channels(torch.zeros(2, 3, 8, 8), 3).shape == (2, 3, 8, 8)


def test_normalize_gives_zero_mean_and_unit_deviation() -> None:
    pixels = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    half = torch.tensor([0.5])
    assert normalize(to_unit_range(pixels), half, half).flatten().tolist() == [-1.0, 1.0]
