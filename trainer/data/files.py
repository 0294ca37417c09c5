"""The user's own images as they lie in directories: found by looking, in an order that is the same everywhere."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trainer.config import Folders
from trainer.data.decode import SUFFIXES
from trainer.data.image_file import NO_FILE, ImageFile, Stamp
from trainer.errors import ConfigError, first_few

NAMED_AT_MOST = 5
"""How many files, classes or kinds of files a message names."""

NO_IMAGES = frozenset(
    f".{suffix}"
    for suffix in (
        *("txt", "md", "rst", "html", "htm", "log", "pdf", "json", "jsonl", "csv", "tsv", "xml", "yaml", "yml", "toml"),
        *("ini", "cfg", "conf", "db", "lnk", "url", "xmp", "aae", "py", "ipynb", "sh", "lock", "md5", "sha1", "sha256"),
    )
)
"""What lies beside images and is none, in lower case: it is left out without a word."""

NO_IMAGES_BY_NAME = frozenset({"readme", "license", "licence", "copying", "notice", "makefile", "sha256sums"})


@dataclass(frozen=True)
class FoundImages:
    """All images of a run, each by its name among all, such as labelled/cat/7.jpg, sorted.

    train: those with a class, by class, then those without. strays: images outside the class directories.
    others: paths of files of kinds that cannot be read, which may well be images.
    """

    class_names: tuple[str, ...]
    train: dict[str, ImageFile]
    test: dict[str, ImageFile]
    strays: tuple[Path, ...] = ()
    others: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.train) + len(self.test)

    @cached_property
    def all(self) -> dict[str, ImageFile]:
        """The training images and those for tests."""
        return self.train | self.test

    @property
    def outline(self) -> str:
        """Differs where images cannot be the same: by names and sizes alone."""
        return _digest(f"{name}/{file.stamp.size_bytes}" for name, file in self.all.items())

    @property
    def stamps(self) -> str:
        """The same only for the same files of this machine, not written to meanwhile: by places, names and stamps."""
        roots = {root: os.path.realpath(root) for root in {file.root for file in self.all.values()}}
        return _digest(f"{name}/{roots[file.root]}/{'/'.join(map(str, file.stamp))}" for name, file in self.all.items())


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class Below:
    """What lies below a directory, by path from there with slashes, sorted: images, and files of `others`' kinds."""

    images: list[tuple[str, Stamp]]
    others: list[str]


def find_images(folders: Folders) -> FoundImages:
    """Look into the folders; raises ConfigError where they are not as they should be."""
    class_names, labelled, strays, others = _find_by_class("folders.labelled", folders.labelled)
    test_names, test, test_strays, test_others = _find_by_class("folders.test", folders.test)
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
        below = _look_below(root)
        unlabelled = [ImageFile(root, name, stamp) for name, stamp in below.images]
        others += [str(root / name) for name in below.others]
        if not unlabelled:
            but = _but_others(below.others)
            raise ConfigError(f"folders.unlabelled: {root} has no images{but}; put some there or leave the field out")
    train = _named("labelled", labelled) | _named("unlabelled", unlabelled)
    return FoundImages(class_names, train, _named("test", test), (*strays, *test_strays), (*others, *test_others))


def _named(part: str, files: list[ImageFile]) -> dict[str, ImageFile]:
    return {f"{part}/{file.name}": file for file in files}


def _find_by_class(field: str, directory: str) -> tuple[tuple[str, ...], list[ImageFile], list[Path], list[str]]:
    """The classes, their images, images outside of them, files of other kinds."""
    root = _directory(field, directory)
    by_class: dict[str, list[tuple[str, Stamp]]] = {
        entry.name: [] for entry in os.scandir(root) if _is_directory(entry) and not entry.name.startswith(".")
    }
    if not by_class:
        raise ConfigError(f"{field}: {root} has no class directories; give each class one, named as the class")
    strays, below = [], _look_below(root)
    for name, stamp in below.images:
        class_name, slash, _ = name.partition("/")
        if slash:
            by_class[class_name].append((name, stamp))
        else:
            strays.append(root / name)
    empty = sorted(name for name, files in by_class.items() if not files)
    if empty:
        but = _but_others([name for name in below.others if name.partition("/")[0] in empty])
        raise ConfigError(f"{field}: no images in {root} for {listed(empty)}{but}; put some in or remove the directory")
    class_names = tuple(sorted(by_class))
    files = [
        ImageFile(root, name, stamp, label) for label, key in enumerate(class_names) for name, stamp in by_class[key]
    ]
    return class_names, files, strays, [str(root / name) for name in below.others]


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


def _look_below(root: Path) -> Below:
    images, others = [], []
    for name, entry in _walk(root, "", frozenset()):
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in SUFFIXES:
            images.append((name, _stamp(entry)))
        elif suffix not in NO_IMAGES and entry.name.lower() not in NO_IMAGES_BY_NAME and _is_file(entry):
            others.append(name)
    return Below(sorted(images), sorted(others))


def _walk(directory: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """What is no directory, by name; links are followed, but not in a circle; what is hidden is left out."""
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
        else:
            yield prefix + entry.name, entry


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except PermissionError as error:  # it may well lead to a directory of images
        raise ConfigError(f"{entry.path}: cannot be read: {error.strerror}") from None
    except OSError:  # a link to itself, say: as one to nothing
        return False


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that cannot be followed
        return False


def _stamp(entry: "os.DirEntry[str]") -> Stamp:
    try:
        return Stamp.of(entry.stat())
    except OSError:  # a link to nothing: an image that cannot be read, as is told when it is decoded
        return NO_FILE


def _is_no(names: list[str]) -> str:
    return "is no" if len(names) == 1 else "are no"


def listed(names: Sequence[str]) -> str:
    """Classes as a message names them: the first few and how many more."""
    kind = "class" if len(names) == 1 else "classes"
    quoted = [f"'{name}'" for name in names]
    return f"{kind} {first_few(quoted, NAMED_AT_MOST)}"


def other_kinds(names: Sequence[str]) -> str:
    """How many files of kinds that cannot be read, and which those are, the most frequent first."""
    kinds = [kind for kind, _ in Counter(Path(name).suffix.lower() or "no suffix" for name in names).most_common()]
    shown = first_few(kinds, NAMED_AT_MOST)
    return f"{len(names)} {'file' if len(names) == 1 else 'files'} of kinds that cannot be read ({shown})"


def _but_others(names: Sequence[str]) -> str:
    return f", but {other_kinds(names)}, to be converted to JPEG or PNG" if names else ""
