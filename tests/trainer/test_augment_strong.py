"""The strong policy: each operation alone, and how they are drawn."""

import math

import pytest
import torch
from torch import Tensor

from tests.trainer.views import asking, draws, noise_images, view
from trainer.augment import strong
from trainer.augment.colour import grey, mean_grey
from trainer.augment.geometry import resample
from trainer.augment.strong import Extra, Operation

COLOURS = [operation for operation in Operation if operation >= Operation.BRIGHTNESS]
SHAPES = [operation for operation in Operation if operation < Operation.BRIGHTNESS]


def extra(operation: Operation, strengths: Tensor) -> Extra:
    return Extra(torch.full(strengths.shape, int(operation)), strengths)


def recoloured(operation: Operation, images: Tensor, strength: float) -> Tensor:
    return strong.recolour(images, extra(operation, torch.full((len(images),), strength)))


def shaped(operation: Operation, images: Tensor, strength: float) -> Tensor:
    return resample(images, strong.shape_maps(images, extra(operation, torch.full((len(images),), strength))))


def test_two_operations_a_sample_all_equally_often() -> None:
    extras = strong.draw(14_000, draws())
    assert len(extras) == 2
    for one in extras:
        counts = one.operations.bincount()
        assert len(counts) == len(Operation)
        assert 850 < int(counts.min()) <= int(counts.max()) < 1150
        assert -1 <= float(one.strengths.min()) < -0.99 < 0.99 < float(one.strengths.max()) <= 1
    assert not torch.equal(extras[0].operations, extras[1].operations)


@pytest.mark.parametrize("channels", [1, 3])
def test_doing_an_operation_to_its_own_samples_is_doing_it_to_all_and_taking_those(channels: int) -> None:
    images = noise_images(300, channels)
    for one in strong.draw(300, draws()):
        chosen, everywhere = strong._recolour_chosen(images, one), strong._recolour_all(images, one)
        assert torch.allclose(chosen, everywhere, atol=1e-6)
        assert not torch.equal(chosen, images)


def test_a_sample_has_the_operation_that_was_drawn_for_it() -> None:
    images = noise_images(len(Operation))
    mixed = strong.recolour(images, Extra(torch.arange(len(Operation)), torch.full((len(Operation),), 0.3)))
    for operation in Operation:
        assert torch.allclose(
            mixed[operation], recoloured(operation, images[operation : operation + 1], 0.3)[0], atol=1e-6
        )


@pytest.mark.parametrize("operation", SHAPES)
def test_shapes_leave_colours_and_colours_leave_shapes(operation: Operation) -> None:
    assert torch.equal(recoloured(operation, noise_images(), 0.7), noise_images())
    for colour in COLOURS:
        maps = strong.shape_maps(noise_images(1), extra(colour, torch.tensor([0.7])))
        assert torch.equal(maps, torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]))


@pytest.mark.parametrize(("strength", "factor"), [(-1.0, 0.1), (0.0, 1.0), (0.5, 1.45), (1.0, 1.9)])
def test_brightness_contrast_colour_and_sharpness_are_factors_from_a_tenth_to_nearly_two(
    strength: float, factor: float
) -> None:
    images = noise_images() * 0.2 + 0.4
    origins = {
        Operation.BRIGHTNESS: torch.zeros(1),
        Operation.CONTRAST: mean_grey(images),
        Operation.COLOUR: grey(images),
    }
    for operation, origin in origins.items():
        expected = (origin + factor * (images - origin)).clamp(0, 1)
        assert torch.allclose(recoloured(operation, images, strength), expected, atol=1e-5)


def test_sharpness_goes_away_from_the_smoothed_image() -> None:
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 1.0
    blurred = recoloured(Operation.SHARPNESS, dot, -1.0)[0, 0]
    # A tenth of the dot, nine tenths of weights 5 and 1 of 13.
    assert float(blurred[2, 2]) == pytest.approx(0.1 + 0.9 * 5 / 13, abs=1e-6)
    assert float(blurred[1, 3]) == pytest.approx(0.9 / 13, abs=1e-6)
    assert float(blurred[0].abs().sum()) == pytest.approx(0, abs=1e-6)
    flat = torch.full((1, 3, 5, 5), 0.3)
    assert torch.allclose(recoloured(Operation.SHARPNESS, flat, 1.0), flat, atol=1e-6)


def test_autocontrast_stretches_each_channel() -> None:
    images = noise_images() * 0.3 + 0.2
    images[0, 1] = 0.25  # of one value: nothing to stretch
    stretched = recoloured(Operation.AUTOCONTRAST, images, 0.0)
    assert torch.equal(stretched[0, 1], images[0, 1])
    assert torch.equal(stretched[1:].amin(dim=(2, 3)), torch.zeros(63, 3))
    assert torch.equal(stretched[1:].amax(dim=(2, 3)), torch.ones(63, 3))


def test_equalize_gives_each_value_its_rank() -> None:
    image = torch.tensor([10, 10, 20, 20, 20, 200, 30, 10]).view(1, 1, 2, 4) / 255
    ranks = recoloured(Operation.EQUALIZE, image, 0.0).flatten().tolist()
    assert ranks == pytest.approx([0, 0, 3 / 5, 3 / 5, 3 / 5, 1, 4 / 5, 0])
    flat = torch.full((1, 3, 4, 4), 0.3)
    assert torch.equal(recoloured(Operation.EQUALIZE, flat, 0.0), flat)


def test_equalize_makes_all_levels_equally_frequent() -> None:
    dark = noise_images(4, px=64) ** 1.5
    equal = recoloured(Operation.EQUALIZE, dark, 0.0)
    assert torch.allclose(torch.histc(equal, 8, 0, 1) / equal.numel(), torch.full((8,), 1 / 8), atol=0.02)


@pytest.mark.parametrize(("strength", "bits"), [(-1.0, 4), (-0.61, 4), (-0.59, 5), (0.0, 6), (0.5, 7), (1.0, 8)])
def test_posterize_keeps_the_upper_bits(strength: float, bits: int) -> None:
    bytes_ = torch.arange(256)
    kept = recoloured(Operation.POSTERIZE, bytes_.view(1, 1, 16, 16) / 255, strength)
    assert torch.equal((kept.flatten() * 255).round().long(), bytes_ >> (8 - bits) << (8 - bits))


@pytest.mark.parametrize(("strength", "threshold"), [(-1.0, 0.0), (0.0, 0.5), (0.6, 0.8)])
def test_solarize_inverts_what_is_brighter_than_the_threshold(strength: float, threshold: float) -> None:
    images = noise_images()
    expected = torch.where(images >= threshold, 1 - images, images)
    assert torch.equal(recoloured(Operation.SOLARIZE, images, strength), expected)


@pytest.mark.parametrize(("strength", "pixels"), [(-1.0, -3), (0.1, 0), (0.5, 2), (1.0, 3)])
def test_translations_are_by_whole_pixels_up_to_three_tenths(strength: float, pixels: int) -> None:
    images = noise_images(px=10)
    for operation, axis in ((Operation.TRANSLATE_X, -1), (Operation.TRANSLATE_Y, -2)):
        seen = shaped(operation, images, strength)
        inner = slice(3, 7)  # what no border reaches
        expected = images.roll(-pixels, axis)[..., inner, inner]
        assert torch.allclose(seen[..., inner, inner], expected, atol=1e-5)


def test_rotation_and_shear_have_their_bounds() -> None:
    full = torch.tensor([-1.0, 1.0])
    images = torch.zeros(2, 3, 8, 8)
    turned = strong.shape_maps(images, extra(Operation.ROTATE, full))
    assert torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).tolist() == pytest.approx([-math.pi / 6, math.pi / 6])
    for operation, row in ((Operation.SHEAR_X, 0), (Operation.SHEAR_Y, 1)):
        maps = strong.shape_maps(images, extra(operation, full))
        assert maps[:, row, 1 - row].tolist() == pytest.approx([-0.3, 0.3])
        assert torch.equal(maps[:, 1 - row], torch.eye(2, 3)[1 - row].expand(2, -1))


def test_on_grey_images_colour_changes_nothing() -> None:
    assert torch.equal(recoloured(Operation.COLOUR, noise_images(channels=1), 1.0), noise_images(channels=1))


def test_the_policy_adds_to_the_weak_view_and_keeps_its_cutout() -> None:
    images = torch.full((400, 3, 8, 8), 0.25)  # no shape shows
    seen = view(images, asking(policy="strong", cutout=0.5))
    blank = (seen == 0.5).all(dim=1).sum(dim=(1, 2))
    assert int(blank.min()) >= 4
    untouched = ((seen - 0.25).abs() < 1e-5).float().mean(dim=(1, 2, 3)) >= 0.75
    assert 0 < int(untouched.sum()) < 400
