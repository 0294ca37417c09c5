"""A look at all images of the user's folders: which can be read, what they are like on average, their pixels."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from trainer.data.dataset import Array, channel_counts, statistics_of
from trainer.data.files import FoundImages
from trainer.data.image_file import DIGEST_BYTES, ImageFile
from trainer.data.known import KnownImages
from trainer.data.loader import Loader, cpu_cores
from trainer.data.reading import Decoding, Digesting
from trainer.data.shelf import About, Shelf
from trainer.data.sources import ArraySource, Attempt, FileSource, Source, pixels_or_raise
from trainer.data.unreadable import IfUnreadable, refuse_unreadable
from trainer.errors import Unavailable
from trainer.standard_error import tell

T = TypeVar("T")

CHUNK = 32
"""Images that a process decodes at a time when all are gone through."""

FEW = 256
"""Up to so many are decoded before processes that would do it have started."""

SAMPLED_FOR_STATISTICS = 2_000


@dataclass(frozen=True)
class LookedPart:
    """Of the training or the test images those that can be read, in order.

    pixels: uint8 [N, 3, px, px]; None where they were not wanted, since they are to be streamed from the files.
    sha256: of the files, uint8 [N, 32].
    """

    pixels: Array | None
    sha256: Array


@dataclass(frozen=True)
class Looked:
    """What came of looking at all images."""

    about: About
    train: LookedPart
    test: LookedPart


class Look:
    """How all images are gone through, by several processes where they are many."""

    def __init__(
        self, found: FoundImages, px: int, resident: bool, workers: int | str, if_unreadable: IfUnreadable
    ) -> None:
        self._found, self._px, self._resident, self._if_unreadable = found, px, resident, if_unreadable
        many = workers if isinstance(workers, int) else cpu_cores()
        self._workers = many if len(found) > FEW else 0

    def remembered(self, known: KnownImages) -> Looked | None:
        """What an earlier start kept of these files; None where it kept too little, or more can be read by now."""
        content = known.content()
        return None if content is None else self._kept(known.of(content))

    def recognised(self, known: KnownImages, *, writable: bool) -> Looked | None:
        """What was kept of the same images elsewhere, or before a mere touch: all are read and none is decoded."""
        if known.content() is not None or not known.has_any():
            return None
        self._tell("reads {} images, to see whether they were looked at before")
        content = _content(self._found.all, np.concatenate(list(self._all_digests())))
        looked = self._kept(known.of(content))
        if looked is not None and writable:
            with _writing(known):
                known.remember(content)
        return looked

    def now(self, known: KnownImages | None) -> Looked:
        """Decode every image, and keep what comes of it where there is a place for it; raises ConfigError."""
        self._tell("looks at {} images, once")
        if known is None:
            return self._at_all(None)[0]
        try:
            with _writing(known):
                looked, content = self._at_all(known.begin())
                known.settle(content)
        finally:
            known.abandon()
        return looked

    def _at_all(self, shelf: Shelf | None) -> tuple[Looked, str]:
        """What came of it, and what names the content of all files."""
        unreadable: dict[str, str] = {}
        digests, parts = [], []
        for part, files in self._parts():
            pixels, of_part = self._decoded(shelf, part, files, unreadable)
            readable = np.array([name not in unreadable for name in files])
            digests.append(of_part)
            parts.append(LookedPart(pixels, of_part[readable]))
            if shelf is not None:
                shelf.keep_array(_sha256(part), [of_part[readable]], len(files), (DIGEST_BYTES,), np.uint8)
        refuse_unreadable(self._found, unreadable, self._if_unreadable)
        looked = Looked(self._about(unreadable, *parts), *parts)
        if shelf is not None:
            shelf.keep_about(looked.about)
        return looked, _content(self._found.all, np.concatenate(digests))

    def _kept(self, shelf: Shelf) -> Looked | None:
        about = shelf.about()
        if about is None or self._some_can_be_read(about.unreadable):
            return None
        parts = []
        for part, files in self._parts():
            readable = len(files) - len(about.unreadable.keys() & files.keys())
            pixels = _whole(shelf.array(part), (readable, 3, self._px, self._px))
            sha256 = _whole(shelf.array(_sha256(part)), (readable, DIGEST_BYTES))
            if sha256 is None or (self._resident and pixels is None):
                return None
            parts.append(LookedPart(pixels, sha256))
        return Looked(about, *parts)

    def _parts(self) -> list[tuple[str, dict[str, ImageFile]]]:
        return [("train", self._found.train), ("test", self._found.test)]

    def _decoded(
        self, shelf: Shelf | None, part: str, files: dict[str, ImageFile], unreadable: dict[str, str]
    ) -> tuple[Array | None, Array]:
        """The pixels of those that can be read, if wanted, and the SHA-256 of all; adds others to `unreadable`."""
        digests: list[Array] = []
        blocks, shape = self._blocks(files, unreadable, digests), (3, self._px, self._px)
        if not self._resident:
            for _ in blocks:
                pass
            pixels = None
        elif shelf is not None:
            shelf.keep_array(part, blocks, len(files), shape, np.uint8)
            pixels = shelf.array(part)
        else:
            pixels = _filled(np.empty((len(files), *shape), np.uint8), blocks)
        return pixels, np.concatenate(digests)

    def _blocks(self, files: dict[str, ImageFile], unreadable: dict[str, str], digests: list[Array]) -> Iterator[Array]:
        names = list(files)
        decoding = Decoding([file.path for file in files.values()], self._px, self._resident)
        for pixels, of_chunk, failures in self._each(decoding, np.arange(len(names))):
            unreadable.update({names[index]: reason for index, reason in failures.items()})
            digests.append(of_chunk.numpy())
            yield pixels.numpy()

    def _all_digests(self) -> Iterator[Array]:
        paths = [file.path for file in self._found.all.values()]
        for of_chunk in self._each(Digesting(paths), np.arange(len(paths))):
            yield of_chunk.numpy()

    def _about(self, unreadable: dict[str, str], train: LookedPart, test: LookedPart) -> About:
        """The average is over images sampled evenly; where they are read from makes no difference to it."""
        files = [file for name, file in self._found.train.items() if name not in unreadable]
        source: Source = (
            FileSource(files, train.sha256, self._px) if train.pixels is None else ArraySource(train.pixels)
        )
        sampled = min(len(files), SAMPLED_FOR_STATISTICS)
        counts = torch.zeros(3, 256, dtype=torch.int64)
        for block in self._each(Attempt(source), np.arange(sampled) * len(files) // sampled):
            counts += channel_counts(pixels_or_raise(block))
        mean, std = statistics_of(counts)
        readable = [name for name in self._found.all if name not in unreadable]
        return About(
            fingerprint=_content(readable, np.concatenate([train.sha256, test.sha256])),
            class_names=list(self._found.class_names),
            mean=mean.tolist(),
            std=std.tolist(),
            unreadable=unreadable,
        )

    def _each(self, read: Callable[[Array], T], indices: Array) -> Iterator[T]:
        chunks = iter(np.array_split(indices, -(-len(indices) // CHUNK)))
        with Loader(read, chunks, workers=self._workers) as loader:
            yield from loader

    def _some_can_be_read(self, names: dict[str, str]) -> bool:
        return any(not Decoding([self._found.all[name].path], self._px, False)(np.arange(1))[2] for name in names)

    def _tell(self, what: str) -> None:
        if len(self._found) > FEW:
            tell(f"trainer: {what.format(f'{len(self._found):,}')}")


@contextmanager
def _writing(known: KnownImages) -> Iterator[None]:
    """Say where it was when something could not be written."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"folders: what is decoded cannot be kept in {known.directory}: {error.strerror}") from None


def _content(names: Iterable[str], sha256: Array) -> str:
    """Names images by what is in their files, and where: the same on all machines, whenever they were copied there."""
    digest = hashlib.sha256()
    for name, row in zip(names, sha256, strict=True):
        digest.update(name.encode() + b"\0" + row.tobytes())
    return f"content-{digest.hexdigest()[:16]}"


def _sha256(part: str) -> str:
    return f"{part}_sha256"


def _whole(array: Array | None, shape: tuple[int, ...]) -> Array | None:
    return array if array is not None and array.shape == shape else None


def _filled(array: Array, blocks: Iterable[Array]) -> Array:
    """As many rows of an array as there are in the blocks, filled with them."""
    rows = 0
    for block in blocks:
        array[rows : rows + len(block)] = block
        rows += len(block)
    return array[:rows]
