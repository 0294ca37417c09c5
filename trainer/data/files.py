"""The user's own images as they lie in directories: found by looking, in an order that is the same everywhere."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config import Folders
from trainer.data.decode import SUFFIXES
from trainer.errors import ConfigError

NAMED_AT_MOST = 5
"""How many files or classes a message names."""


@dataclass(frozen=True)
class ImageFile:
    """An image below a directory: its path from there with slashes, its size, its class; -1 without."""

    root: Path
    name: str
    size_bytes: int
    label: int = -1

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.root / self.name


@dataclass(frozen=True)
class FoundImages:
    """All images of a run, each by its name among all, such as labelled/cat/7.jpg, sorted.

    train: those with a class, by class, then those without. strays: images outside the class directories.
    """

    class_names: tuple[str, ...]
    train: dict[str, ImageFile]
    test: dict[str, ImageFile]
    strays: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.train) + len(self.test)

    @property
    def fingerprint(self) -> str:
        """Tells whether these are the same images: by names and sizes; times and places may change."""
        lines = [f"{name}/{file.size_bytes}" for name, file in (self.train | self.test).items()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def find_images(folders: Folders) -> FoundImages:
    """Look into the folders; raises ConfigError where they are not as they should be."""
    class_names, labelled, strays = _find_by_class("folders.labelled", folders.labelled)
    test_names, test, test_strays = _find_by_class("folders.test", folders.test)
    if len(class_names) == 1:
        raise ConfigError(
            f"folders.labelled: {folders.labelled} has one class directory, {listed(class_names)}; "
            "there must be two or more"
        )
    unknown, lacking = sorted(set(test_names) - set(class_names)), sorted(set(class_names) - set(test_names))
    if unknown:
        raise ConfigError(
            f"folders.test: {listed(unknown)} {_is_no(unknown)} class of folders.labelled ({folders.labelled}); "
            "both need the same class directories"
        )
    if lacking:
        raise ConfigError(
            f"folders.test: {folders.test} has no directory for {listed(lacking)}, which folders.labelled has; "
            "both need the same class directories"
        )
    unlabelled: list[ImageFile] = []
    if folders.unlabelled is not None:
        root = _directory("folders.unlabelled", folders.unlabelled)
        unlabelled = [ImageFile(root, name, size) for name, size in _images_below(root)]
        if not unlabelled:
            raise ConfigError(f"folders.unlabelled: {root} has no images; put some there or leave the field out")
    train = _named("labelled", labelled) | _named("unlabelled", unlabelled)
    return FoundImages(class_names, train, _named("test", test), (*strays, *test_strays))


def _named(part: str, files: list[ImageFile]) -> dict[str, ImageFile]:
    return {f"{part}/{file.name}": file for file in files}


def _find_by_class(field: str, directory: str) -> tuple[tuple[str, ...], list[ImageFile], list[Path]]:
    root = _directory(field, directory)
    by_class: dict[str, list[tuple[str, int]]] = {
        entry.name: [] for entry in os.scandir(root) if _is_directory(entry) and not entry.name.startswith(".")
    }
    if not by_class:
        raise ConfigError(f"{field}: {root} has no class directories; give each class one, named as the class")
    strays = []
    for name, size in _images_below(root):
        class_name, slash, _ = name.partition("/")
        if slash:
            by_class[class_name].append((name, size))
        else:
            strays.append(root / name)
    empty = sorted(name for name, files in by_class.items() if not files)
    if empty:
        raise ConfigError(f"{field}: no images in {root} for {listed(empty)}; put some in or remove the directory")
    class_names = tuple(sorted(by_class))
    files = [
        ImageFile(root, name, size, label) for label, key in enumerate(class_names) for name, size in by_class[key]
    ]
    return class_names, files, strays


def _directory(field: str, path: str) -> Path:
    if path.startswith("s3://"):
        raise ConfigError(
            f"{field}: {path} is in a bucket, and the trainer reads local directories: "
            "a job's agent copies it and gives the copy; alone, copy it and give its directory"
        )
    root = Path(path).expanduser()
    try:
        with os.scandir(root):
            return root
    except OSError as error:
        raise ConfigError(f"{field}: {root} cannot be read as a directory: {error.strerror}") from None


def _images_below(root: Path) -> list[tuple[str, int]]:
    return sorted(_walk(root, "", frozenset()))


def _walk(directory: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Names and sizes of images; links are followed, but not in a circle; hidden files and others are left out."""
    try:
        status = directory.stat()
        entries = list(os.scandir(directory))
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be read: {error.strerror}") from None
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if any("\ud800" <= character <= "\udfff" for character in entry.name):  # how Python has other bytes
            raise ConfigError(f"{directory}: the name {entry.name!r} is not UTF-8; rename it")
        if _is_directory(entry):
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", above | {here})
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield prefix + entry.name, _size_bytes(entry)


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except PermissionError as error:  # it may well lead to a directory of images
        raise ConfigError(f"{entry.path}: cannot be read: {error.strerror}") from None
    except OSError:  # a link to itself, say: as one to nothing
        return False


def _size_bytes(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nothing: an image that cannot be read, as is told when it is decoded
        return 0


def _is_no(names: list[str]) -> str:
    return "is no" if len(names) == 1 else "are no"


def listed(names: Sequence[str]) -> str:
    """Classes as a message names them: the first few and how many more."""
    shown = ", ".join(f"'{name}'" for name in names[:NAMED_AT_MOST])
    more = len(names) - NAMED_AT_MOST
    kind = "class" if len(names) == 1 else "classes"
    return f"{kind} {shown}" + (f" and {more} more" if more > 0 else "")
