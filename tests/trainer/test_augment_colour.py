"""Colour jitter and cutout do what they say, within their bounds."""

import colorsys

import pytest
import torch

from tests.trainer.views import asking, draws, noise_images, view
from trainer.augment.colour import blend, grey, mean_grey, turn_hue
from trainer.augment.cutout import cutout


def test_brightness_is_a_factor_within_its_bound() -> None:
    factors = view(torch.full((1000, 3, 4, 4), 0.5), asking(brightness=0.4)) / 0.5
    assert torch.equal(factors, factors[:, :1, :1, :1].expand_as(factors))
    assert 0.6 <= float(factors.min()) < 0.62
    assert 1.38 < float(factors.max()) <= 1.4001


def test_contrast_moves_pixels_from_and_to_the_mean_grey() -> None:
    images = noise_images(300) * 0.2 + 0.4  # so that nothing leaves 0..1
    seen = view(images, asking(contrast=0.5))
    factors = (seen - mean_grey(images)) / (images - mean_grey(images))
    factor = factors.flatten(1).median(dim=1).values
    assert torch.allclose(mean_grey(seen), mean_grey(images), atol=1e-5)
    assert torch.allclose(seen, torch.lerp(mean_grey(images), images, factor[:, None, None, None]), atol=1e-4)
    assert 0.5 - 1e-3 <= float(factor.min()) < 0.53
    assert 1.47 < float(factor.max()) <= 1.5 + 1e-3


def test_saturation_keeps_how_bright_a_pixel_looks() -> None:
    images = noise_images(300) * 0.2 + 0.4
    seen = view(images, asking(saturation=1.0))
    assert torch.allclose(grey(seen), grey(images), atol=1e-5)
    spread = (seen.amax(dim=1) - seen.amin(dim=1)) / (images.amax(dim=1) - images.amin(dim=1))
    factor = spread.flatten(1).median(dim=1).values
    assert float(factor.min()) < 0.05
    assert 1.95 < float(factor.max()) <= 2.001


def test_a_blend_of_none_of_the_image_is_the_origin_and_of_all_of_it_the_image() -> None:
    images = noise_images()
    assert torch.equal(blend(grey(images), images, torch.tensor(1.0)), images)
    assert torch.equal(blend(grey(images), images, torch.tensor(0.0)), grey(images).expand_as(images))


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 0.1, 1 / 3, 0.5])
def test_hue_turns_as_in_hsv(turn: float) -> None:
    images = noise_images(1)
    images[0, :, 0] = torch.tensor([0.0, 1.0, 0.3])[:, None]
    images[0, :, 1] = 0.5  # grey has no hue
    images[0, :, 2] = 0.0
    turned = turn_hue(images, torch.tensor([turn]))
    for row in range(8):
        for column in range(8):
            hue, saturation, value = colorsys.rgb_to_hsv(*images[0, :, row, column].tolist())
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            assert turned[0, :, row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_third_of_a_turn_makes_red_green() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
    assert turn_hue(red, torch.tensor([1 / 3])).flatten().tolist() == pytest.approx([0, 1, 0], abs=1e-6)


def test_hue_is_drawn_within_its_bound() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1000, -1, -1, -1)
    hues = [colorsys.rgb_to_hsv(*image.flatten().tolist())[0] for image in view(red, asking(hue=0.1))]
    turns = [hue - 1 if hue > 0.5 else hue for hue in hues]
    assert -0.1001 <= min(turns) < -0.095
    assert 0.095 < max(turns) <= 0.1001


def test_grey_images_have_brightness_and_contrast_alone() -> None:
    images = noise_images(channels=1)
    assert torch.equal(view(images, asking(saturation=0.5, hue=0.5)), images)
    both = view(images, asking(brightness=0.5, contrast=0.5))
    assert torch.equal(view(images, asking(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5)), both)


@pytest.mark.parametrize("channels", [1, 3])
def test_cutout_blanks_one_square_with_the_mean(channels: int) -> None:
    mean = torch.tensor([2.0, 3.0, 4.0])[:channels]  # no pixel has these
    seen = cutout(noise_images(500, channels), 0.5, mean, draws())
    blank = seen >= 2
    assert torch.equal(blank, blank[:, :1].expand_as(blank))
    assert torch.equal(seen, torch.where(blank, mean[:, None, None], noise_images(500, channels)))
    rows, columns = blank[:, 0].any(dim=2), blank[:, 0].any(dim=1)
    assert torch.equal(blank[:, 0], rows[:, :, None] & columns[:, None, :])  # a rectangle
    for sides in (rows.sum(dim=1), columns.sum(dim=1)):
        assert set(sides.tolist()) == {2, 3, 4}  # half of 8 pixels, less near the border
    for covered in (rows, columns):
        assert all(1 <= int(stretch.int().diff().abs().sum()) <= 2 for stretch in covered)  # without a gap


def test_cutout_s_square_is_centred_anywhere() -> None:
    fill = torch.tensor([2.0])
    blank = cutout(torch.zeros(5000, 1, 8, 8), 1 / 8, fill, draws()) == 2
    assert torch.equal(blank.sum(dim=(1, 2, 3)), torch.ones(5000, dtype=torch.int64))
    counts = blank.sum(dim=(0, 1))
    assert 40 < int(counts.min()) <= int(counts.max()) < 130  # 78 expected of each pixel


def test_no_square_of_no_size() -> None:
    assert torch.equal(view(noise_images(), asking(cutout=0.01)), noise_images())


def test_a_square_of_the_whole_height_leaves_what_lies_beyond_its_edge() -> None:
    seen = view(noise_images(500), asking(cutout=1.0))
    share = (seen == 0.5).float().mean(dim=(1, 2, 3))
    assert 0.25 <= float(share.min()) < 0.5 < float(share.max()) <= 1
