"""Flips and shifts move pixels exactly; everything else is one interpolation, within its bounds."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.trainer.views import asking, draws, noise_images, view
from trainer.augment.geometry import affine_maps, chain, crop_maps, interpolates, resample
from trainer.config import Augmentation

DIGITS = Augmentation(translate_px=1, rotate_degrees=15, scale=0.1, shear=0.1)
"""What the demo asks for."""


def test_flip_mirrors_about_half_of_the_images_exactly() -> None:
    images = noise_images(200)
    seen = view(images, asking(flip=True))
    mirrored = [torch.equal(image, original.flip(-1)) for image, original in zip(seen, images, strict=True)]
    same = [torch.equal(image, original) for image, original in zip(seen, images, strict=True)]
    assert sum(mirrored) + sum(same) == 200
    assert 70 < sum(mirrored) < 130


def test_flip_auto_asks_whether_mirror_images_are_of_the_same_class() -> None:
    assert torch.equal(view(noise_images(), asking(flip="auto"), mirrors=False), noise_images())
    assert not torch.equal(view(noise_images(), asking(flip="auto"), mirrors=True), noise_images())


def shifts(image: Tensor, shift_px: int) -> dict[bytes, tuple[int, int]]:
    """An image shifted by every number of whole pixels, cut out of the image with a reflected border."""
    wide, px = F.pad(image[None], (shift_px,) * 4, mode="reflect")[0], image.shape[-1]
    offsets = [(y, x) for y in range(2 * shift_px + 1) for x in range(2 * shift_px + 1)]
    return {wide[:, y : y + px, x : x + px].numpy().tobytes(): (y - shift_px, x - shift_px) for y, x in offsets}


def test_translation_is_by_whole_pixels_and_reflects_the_border() -> None:
    image = noise_images(1)
    seen = view(image.expand(500, -1, -1, -1), asking(translate_px=2))
    known = shifts(image[0], 2)
    found = [known[one.numpy().tobytes()] for one in seen]
    assert set(found) == set(known.values())  # all 25, and nothing beyond
    assert all(found.count(shift) < 60 for shift in known.values())


def test_flipped_images_are_shifted_too() -> None:
    image = noise_images(1)
    seen = view(image.expand(500, -1, -1, -1), asking(translate_px=2, flip=True))
    known = {**shifts(image[0], 2), **shifts(image[0].flip(-1), 2)}
    assert {one.numpy().tobytes() for one in seen} == set(known)


def test_a_shift_may_be_longer_than_the_image() -> None:
    images = noise_images(1).expand(64, -1, -1, -1)
    assert torch.isin(view(images, asking(translate_px=100)), images[0]).all()


def test_translation_auto_is_an_eighth_of_the_height() -> None:
    assert torch.equal(view(noise_images(), asking(translate_px="auto")), view(noise_images(), asking(translate_px=1)))


def bilinear(image: Tensor, row: float, column: float) -> float:
    """A value between pixels, written out: the border is continued."""
    px = image.shape[-1]
    row, column = min(max(row, 0.0), px - 1.0), min(max(column, 0.0), px - 1.0)
    top, left = math.floor(row), math.floor(column)
    below, right = row - top, column - left
    bottom, east = min(top + 1, px - 1), min(left + 1, px - 1)
    upper = float(image[top, left]) * (1 - right) + float(image[top, east]) * right
    lower = float(image[bottom, left]) * (1 - right) + float(image[bottom, east]) * right
    return upper * (1 - below) + lower * below


def test_the_demo_s_views_are_those_of_their_maps() -> None:
    images = noise_images(20, channels=1)
    seen, maps = view(images, DIGITS, mirrors=False), affine_maps(images, DIGITS, False, draws()).tolist()
    for number in range(20):
        (a, b, c), (d, e, f) = maps[number]
        for row, column in ((0, 0), (3, 5), (7, 2)):
            x, y = (2 * column + 1) / 8 - 1, (2 * row + 1) / 8 - 1
            at_row, at_column = ((d * x + e * y + f + 1) * 8 - 1) / 2, ((a * x + b * y + c + 1) * 8 - 1) / 2
            expected = bilinear(images[number, 0], at_row, at_column)
            assert float(seen[number, 0, row, column]) == pytest.approx(expected, abs=1e-5)


def test_maps_stay_within_what_was_asked_for() -> None:
    images = torch.zeros(2000, 1, 8, 8)
    turned = affine_maps(images, asking(rotate_degrees=15.0), False, draws())
    angles = torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).rad2deg()
    assert 14.5 < float(angles.max()) <= 15.01
    assert -15.01 <= float(angles.min()) < -14.5
    assert torch.allclose(torch.linalg.det(turned[:, :, :2]), torch.ones(2000), atol=1e-5)

    zoomed = affine_maps(images, asking(scale=0.1), False, draws())
    for zoom in (zoomed[:, 0, 0], zoomed[:, 1, 1]):
        assert 0.9 <= float(zoom.min()) < 0.91
        assert 1.09 < float(zoom.max()) <= 1.1001

    slanted = affine_maps(images, asking(shear=0.1), False, draws())[:, 0, 1]
    assert 0.09 < float(slanted.abs().max()) <= 0.1

    shifted = affine_maps(images, DIGITS, False, draws())[:, :, 2] * 4  # in pixels; interpolated anyhow, so any part
    assert 0.95 < float(shifted.abs().max()) <= 1
    assert float((shifted - shifted.round()).abs().max()) > 0.4

    mirrored = affine_maps(images, asking(flip=True, scale=0.1), True, draws())[:, 0, 0] < 0
    assert 900 < int(mirrored.sum()) < 1100


def test_a_quarter_turn_and_a_half_size_are_exact() -> None:
    image = noise_images(1)
    turned = resample(image, torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]]))
    assert torch.allclose(turned, image.rot90(1, (2, 3)), atol=1e-5)
    # The upper left quarter, its pixels centred between two views' pixels.
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) / 8
    quarter = resample(ramp, torch.tensor([[[0.5, 0.0, -0.5], [0.0, 0.5, -0.5]]]))
    assert torch.allclose(quarter[0, 0, 4], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25]) / 8, atol=1e-6)


def test_a_chain_does_the_inner_map_first() -> None:
    maps = torch.randn(2, 5, 2, 3, generator=draws())
    point = torch.tensor([0.3, -0.7])

    def done(one: Tensor, to: Tensor) -> Tensor:
        return (one[:, :, :2] * to[..., None, :]).sum(dim=2) + one[:, :, 2]

    outer, inner = maps
    assert torch.allclose(done(chain(outer, inner), point), done(outer, done(inner, point)), atol=1e-5)


def test_crops_lie_within_the_image_and_are_not_too_small_or_oblong() -> None:
    maps = crop_maps(5000, 0.2, draws())
    width, height, left, top = maps[:, 0, 0], maps[:, 1, 1], maps[:, 0, 2], maps[:, 1, 2]
    for side, place in ((width, left), (height, top)):
        assert bool((place.abs() + side <= 1 + 1e-6).all())
    area, shape = width * height, width / height
    assert 0.2 - 1e-5 <= float(area.min()) < 0.21
    assert 0.99 < float(area.max()) <= 1
    assert 3 / 4 - 1e-4 <= float(shape.min()) < 0.76
    assert 1.32 < float(shape.max()) <= 4 / 3 + 1e-4


def test_a_view_of_a_crop_is_the_crop_at_full_size() -> None:
    # On a ramp a crop is a ramp again: as steep as the crop is narrow.
    ramp = torch.arange(32.0).expand(100, 1, 32, 32) / 32
    slopes = view(ramp, asking(crop_area=0.3))[:, 0, 16, 8:24].diff(dim=1) * 32
    assert torch.allclose(slopes, slopes[:, :1].expand(-1, 15), atol=1e-4)
    assert 0.45 < float(slopes.min()) < 0.6
    assert float(slopes.max()) <= 1 + 1e-4


def test_with_a_crop_and_a_turn_there_is_still_one_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = F.grid_sample, []

    def counted(*arguments: object, **options: object) -> Tensor:
        calls.append(1)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "grid_sample", counted)
    view(noise_images(), asking(flip=True, translate_px=2, rotate_degrees=9.0, crop_area=0.5, policy="strong"))
    assert len(calls) == 1


def test_only_what_interpolates_anyhow_shifts_by_parts_of_a_pixel() -> None:
    assert not interpolates(asking(flip=True, translate_px=2, policy="strong"))
    shifted = affine_maps(noise_images(), asking(translate_px=2), False, draws())[:, :, 2] * 4
    assert torch.equal(shifted, shifted.round())
    assert set(shifted.flatten().tolist()) == {-2, -1, 0, 1, 2}
