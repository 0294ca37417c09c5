"""An image file as pixels: uint8 [3, px, px], whatever its size, mode and orientation."""

import logging
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from trainer.data.dataset import Array, UnreadableImage

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "png", "apng", "webp", "gif", "avif"),
        *("bmp", "dib", "tif", "tiff", "pbm", "pgm", "pnm", "ppm", "tga", "pcx", "qoi"),
    )
)
"""What counts as an image file, in lower case."""

ORIENTATION_TAG = 0x0112

_I_IS_16_BITS = frozenset({"PNG", "PPM"})
"""Formats whose images of Pillow's mode I, 32 bits, have 16 bits in fact."""

# Pillow warns of damaged tags and of sizes that it decodes nevertheless, and does not say in which file.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation."""

# What Pillow raises for damaged files of one format or another; the last two for absurd sizes and numbers within.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
    OverflowError,
    Image.DecompressionBombError,
)


def decode(path: Path, px: int) -> Array:
    """The middle square, scaled to px times px; the first frame of several. Raises UnreadableImage."""
    with open_image(path) as file:
        return decode_from(file, path, px)


@contextmanager
def open_image(path: Path) -> Iterator[BufferedReader]:
    """Read a file; raises UnreadableImage, also where the system fails to read it further on.

    Others than regular files are not opened: a pipe would wait for somebody to write into it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImage(path, "no regular file")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UnreadableImage(path, _reason(error)) from None


def decode_from(file: BufferedReader, path: Path, px: int) -> Array:
    """As `decode`, from a file that is open already."""
    try:
        with Image.open(file) as image:
            # A JPEG decodes several times faster at a fraction of its size; twice the size wanted loses nothing.
            image.draft(None, (2 * px, 2 * px))
            image.load()
            upright = _UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
            square = _square(_rgb(image), px)
    except _DAMAGED as error:
        raise UnreadableImage(path, _reason(error)) from None
    if upright is not None:
        square = square.transpose(upright)
    return np.asarray(square).transpose(2, 0, 1)


def _square(image: Image.Image, px: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if image.size == (px, px):
        return image
    return image.resize((px, px), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _rgb(image: Image.Image) -> Image.Image:
    """Grey thrice, 16 bits to the upper 8, what is transparent on white.

    Raises ValueError for values of which nobody knows which is black and which is white.
    """
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ValueError("floating-point values, whose range is not known")
    if image.mode == "I" and image.format not in _I_IS_16_BITS:
        raise ValueError("values of 32 bits or with a sign, whose range is not known")
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion cuts off at 255
        upper = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(upper).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no image format that is known"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0] or type(error).__name__
