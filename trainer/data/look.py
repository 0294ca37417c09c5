"""A look at all images of the user's folders: which can be read, what they are like on average, their pixels."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trainer.data.dataset import Array, UnreadableImage, channel_counts, statistics_of
from trainer.data.decode import decode
from trainer.data.files import NAMED_AT_MOST, FoundImages, ImageFile, listed
from trainer.data.loader import Loader, cpu_cores
from trainer.data.shelf import About, Shelf
from trainer.data.sources import ArraySource, Attempt, FileSource, Source, pixels_or_raise
from trainer.errors import ConfigError, Unavailable
from trainer.standard_error import tell

CHUNK = 32
"""Images that a process decodes at a time when all are gone through."""

FEW = 256
"""Up to so many are decoded before processes that would do it have started."""

SAMPLED_FOR_STATISTICS = 2_000

IfUnreadable = Literal["fail", "skip"]


@dataclass(frozen=True)
class Looked:
    """What came of looking at all images: what is known of them, and the pixels of those that can be read.

    Pixels are None where they were not wanted, since they are to be streamed from the files.
    """

    about: About
    train: Array | None
    test: Array | None


class Look:
    """How all images are gone through, by several processes where they are many."""

    def __init__(
        self, found: FoundImages, px: int, resident: bool, workers: int | str, if_unreadable: IfUnreadable
    ) -> None:
        self._found, self._px, self._resident, self._if_unreadable = found, px, resident, if_unreadable
        many = workers if isinstance(workers, int) else cpu_cores()
        self._workers = many if len(found) > FEW else 0

    def remembered(self, shelf: Shelf) -> Looked | None:
        """What an earlier start kept; None where it kept too little, or a file can be read that could not be."""
        about = shelf.about()
        if about is None or self._some_can_be_read(about.unreadable):
            return None
        arrays = []
        for part, files in self._parts():
            array = shelf.array(part)
            readable = len(files) - len(about.unreadable.keys() & files.keys())
            is_whole = array is not None and array.shape == (readable, 3, self._px, self._px)
            if self._resident and not is_whole:
                return None
            arrays.append(array if is_whole else None)
        return Looked(about, *arrays)

    def now(self, shelf: Shelf | None) -> Looked:
        """Decode every image, and keep what comes of it where there is a place for it; raises ConfigError."""
        if len(self._found) > FEW:
            tell(f"trainer: looks at {len(self._found):,} images, once")
        unreadable: dict[str, str] = {}
        try:
            if shelf is not None:
                shelf.clear()
            train, test = (self._decoded(shelf, part, files, unreadable) for part, files in self._parts())
            self._refuse(shelf, unreadable)
            about = self._about(unreadable, train)
            if shelf is not None:
                shelf.keep_about(about)
        except OSError as error:
            where = shelf.directory if shelf is not None else "memory"
            raise Unavailable(f"folders: what is decoded cannot be kept in {where}: {error.strerror}") from None
        return Looked(about, train, test)

    def _refuse(self, shelf: Shelf | None, unreadable: dict[str, str]) -> None:
        """As `refuse_unreadable`, leaving nothing behind that would only take room."""
        try:
            refuse_unreadable(self._found, unreadable, self._if_unreadable)
        except ConfigError:
            if shelf is not None:
                shelf.clear()
            raise

    def _parts(self) -> list[tuple[str, dict[str, ImageFile]]]:
        return [("train", self._found.train), ("test", self._found.test)]

    def _decoded(
        self, shelf: Shelf | None, part: str, files: dict[str, ImageFile], unreadable: dict[str, str]
    ) -> Array | None:
        """The pixels of those that can be read, if wanted; adds the others to `unreadable`."""
        blocks, shape = self._blocks(files, unreadable), (3, self._px, self._px)
        if not self._resident:
            for _ in blocks:
                pass
            return None
        if shelf is not None:
            shelf.keep_array(part, blocks, len(files), shape, np.uint8)
            return shelf.array(part)
        array, rows = np.empty((len(files), *shape), np.uint8), 0
        for block in blocks:
            array[rows : rows + len(block)] = block
            rows += len(block)
        return array[:rows]

    def _blocks(self, files: dict[str, ImageFile], unreadable: dict[str, str]) -> Iterator[Array]:
        names = list(files)
        decoding = Decoding([file.path for file in files.values()], self._px, self._resident)
        with Loader(decoding, _chunks(np.arange(len(names))), workers=self._workers) as loader:
            for pixels, failures in loader:
                unreadable.update({names[index]: reason for index, reason in failures.items()})
                yield pixels.numpy()

    def _about(self, unreadable: dict[str, str], pixels: Array | None) -> About:
        """The average is over images sampled evenly; where they are read from makes no difference to it."""
        paths = [file.path for name, file in self._found.train.items() if name not in unreadable]
        source: Source = FileSource(paths, self._px) if pixels is None else ArraySource(pixels)
        sampled = min(len(paths), SAMPLED_FOR_STATISTICS)
        indices = np.arange(sampled) * len(paths) // sampled
        counts = torch.zeros(3, 256, dtype=torch.int64)
        with Loader(Attempt(source), _chunks(indices), workers=self._workers) as loader:
            for block in loader:
                counts += channel_counts(pixels_or_raise(block))
        mean, std = statistics_of(counts)
        return About(
            fingerprint=_fingerprint(self._found, unreadable),
            class_names=list(self._found.class_names),
            mean=mean.tolist(),
            std=std.tolist(),
            unreadable=unreadable,
        )

    def _some_can_be_read(self, names: dict[str, str]) -> bool:
        files = self._found.train | self._found.test
        return any(not Decoding([files[name].path], self._px, False)(np.arange(1))[1] for name in names)


@dataclass(frozen=True)
class Decoding:
    """Decodes files by their indices: the pixels of those that can be read, and why the others cannot be.

    keep: whether the pixels are wanted, or only whether they can be had.
    """

    paths: list[Path]
    px: int
    keep: bool

    def __call__(self, indices: Array) -> tuple[Tensor, dict[int, str]]:
        pixels, failures = [np.empty((0, 3, self.px, self.px), np.uint8)], dict[int, str]()
        for index in indices.tolist():
            try:
                image = decode(self.paths[index], self.px)
            except UnreadableImage as error:
                failures[index] = error.reason
            else:
                pixels += [image[np.newaxis]] if self.keep else []
        return torch.from_numpy(np.concatenate(pixels)), failures


def refuse_unreadable(found: FoundImages, unreadable: dict[str, str], if_unreadable: IfUnreadable) -> None:
    """Raise ConfigError where unreadable files are not to be left out, or a class has no others."""
    if unreadable and if_unreadable == "fail":
        raise ConfigError(
            f"folders: {named_unreadable(found, unreadable)}; mend or remove them, or set folders.unreadable: skip"
        )
    extra = [name for name, file in found.train.items() if file.label < 0]
    if extra and all(name in unreadable for name in extra):
        raise ConfigError(f"folders.unlabelled: no image can be read; {named_unreadable(found, unreadable)}")
    for field, files in (("folders.labelled", found.train), ("folders.test", found.test)):
        left = {file.label for name, file in files.items() if name not in unreadable}
        empty = [name for label, name in enumerate(found.class_names) if label not in left]
        if empty:
            raise ConfigError(
                f"{field}: no image can be read of {listed(empty)}; {named_unreadable(found, unreadable)}"
            )


def named_unreadable(found: FoundImages, unreadable: dict[str, str]) -> str:
    """How many files cannot be read, the first few by name and why."""
    first = ", ".join(f"{name} ({reason})" for name, reason in list(unreadable.items())[:NAMED_AT_MOST])
    more = len(unreadable) - NAMED_AT_MOST
    return f"{len(unreadable)} of {len(found)} images cannot be read: {first}" + (
        f" and {more} more" if more > 0 else ""
    )


def _fingerprint(found: FoundImages, unreadable: dict[str, str]) -> str:
    """That of the files; another where some are left out, since that moves the indices of the rest."""
    if not unreadable:
        return found.fingerprint
    names = "\n".join([found.fingerprint, *sorted(unreadable)])
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _chunks(indices: Array) -> Iterator[Array]:
    return iter(np.array_split(indices, -(-len(indices) // CHUNK)))
