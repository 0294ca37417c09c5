"""Image files of every kind become three channels of one size, the right way up."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainer.images import picture
from trainer.data.dataset import UnreadableImage
from trainer.data.decode import SUFFIXES, decode

ORIENTATION_TAG = 0x0112

# What a camera stores for a scene, by the orientation that it writes down: (row, column) of the stored image.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_an_image_of_the_size_wanted_stays_as_it_is(tmp_path: Path) -> None:
    image = picture(1, 16, 16)
    pixels = decode(save(image, tmp_path / "a.png"), 16)
    assert pixels.shape == (3, 16, 16) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(image).transpose(2, 0, 1))


def test_of_a_wide_or_high_image_the_middle_is_kept(tmp_path: Path) -> None:
    for width, height in ((30, 10), (10, 30)):
        thirds = np.zeros((height, width, 3), np.uint8)
        (thirds[:, 10:20] if width > height else thirds[10:20])[:] = 200
        assert decode(save(Image.fromarray(thirds), tmp_path / "a.png"), 10).min() == 200


@pytest.mark.parametrize("orientation", STORED)
def test_the_orientation_that_a_camera_wrote_down_is_honoured(tmp_path: Path, orientation: int) -> None:
    scene, exif = picture(3, 24, 16), Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    upright = decode(save(scene, tmp_path / "upright.png"), 16)
    turned = decode(save(scene.transpose(STORED[orientation]), tmp_path / "turned.png", exif=exif), 16)
    assert np.array_equal(turned, upright)


@pytest.mark.parametrize(
    ("image", "value"),
    [
        pytest.param(Image.new("L", (8, 8), 77), 77, id="grey"),
        pytest.param(Image.fromarray(np.full((8, 8), 77 * 257, np.uint16)), 77, id="16 bits"),
        pytest.param(Image.new("1", (8, 8), 1), 255, id="black and white"),
        pytest.param(Image.new("RGBA", (8, 8), (9, 9, 9, 255)), 9, id="opaque"),
        pytest.param(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), 255, id="transparent, on white"),
        pytest.param(Image.new("LA", (8, 8), (9, 255)), 9, id="grey with alpha"),
        pytest.param(Image.new("RGB", (8, 8), (50, 50, 50)).quantize(4), 50, id="palette"),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, image: Image.Image, value: int) -> None:
    assert np.array_equal(decode(save(image, tmp_path / "a.png"), 4), np.full((3, 4, 4), value))


def test_cmyk_and_grey_jpegs_become_rgb(tmp_path: Path) -> None:
    for mode in ("CMYK", "L"):
        path = save(Image.new("RGB", (8, 8), (120, 120, 120)).convert(mode), tmp_path / f"{mode}.jpg", quality=100)
        assert abs(decode(path, 4).astype(int) - 120).max() <= 2


def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same(tmp_path: Path) -> None:
    small = picture(5, 10, 10)
    large = small.resize((640, 640), Image.Resampling.BICUBIC)
    from_jpeg = decode(save(large, tmp_path / "a.jpg", quality=98), 20).astype(int)
    from_png = decode(save(large, tmp_path / "a.png"), 20).astype(int)
    assert abs(from_jpeg - from_png).mean() < 3


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.bmp", "a.tif"])
def test_a_file_that_ends_too_early_is_told_by_name_and_reason(tmp_path: Path, name: str) -> None:
    path = save(picture(7, 64, 64), tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match=rf"{path} \(.+\)"):
        decode(path, 16)


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    for path, reason in (("text.png", "no image format"), ("empty.png", "no image format"), ("none.png", "No such")):
        with pytest.raises(UnreadableImage, match=reason):
            decode(tmp_path / path, 16)


@pytest.mark.parametrize("name", ["a.jp2", "a.j2k", "a.tga", "a.qoi", "a.pcx", "a.dib"])
def test_less_common_formats_are_images_too(tmp_path: Path, name: str) -> None:
    image = picture(1, 16, 16)
    assert Path(name).suffix in SUFFIXES
    pixels = decode(save(image, tmp_path / name), 16)
    assert np.array_equal(pixels, np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize(
    ("kind", "reason"), [(np.float32, "floating-point values"), (np.int32, "values of 32 bits or with a sign")]
)
def test_values_whose_range_nobody_knows_are_refused(
    tmp_path: Path, kind: type[Any], reason: str, compression: str
) -> None:
    path = save(Image.fromarray(np.ones((8, 8), kind)), tmp_path / "a.tif", compression=compression)
    with pytest.raises(UnreadableImage, match=rf"{reason}.*, whose range is not known"):
        decode(path, 4)


@pytest.mark.parametrize("name", ["a.png", "a.pgm", "a.tif", "a.jp2"])
def test_grey_of_16_bits_keeps_the_upper_8(tmp_path: Path, name: str) -> None:
    path = save(Image.fromarray(np.full((8, 8), 77 * 257, np.uint16)), tmp_path / name)
    assert np.array_equal(decode(path, 4), np.full((3, 4, 4), 77))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_told_and_what_is_merely_large_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(picture(1, 16, 16), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImage, match=r"a\.png \(Image size \(256 pixels\) exceeds limit"):
        decode(path, 16)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert decode(path, 16).shape == (3, 16, 16)


def test_pillow_prints_nothing_of_its_own(tmp_path: Path) -> None:
    """What it warns of is in no file that anybody could find by it."""
    picture(1, 16, 16).save(tmp_path / "large.png")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0"
    picture(1, 16, 16).save(tmp_path / "exif.jpg", exif=exif)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "from trainer.data.decode import decode\n"
        "Image.MAX_IMAGE_PIXELS = 200\n"
        "for path in sys.argv[1:]:\n"
        "    print(decode(Path(path), 16).shape)\n"
    )
    files = [str(tmp_path / "large.png"), str(tmp_path / "exif.jpg")]
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=True)
    assert done.stdout == 2 * "(3, 16, 16)\n"
    assert done.stderr == ""
