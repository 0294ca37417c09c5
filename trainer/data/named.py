"""CIFAR-10, CIFAR-100, SVHN and STL-10 by torchvision, which downloads and checks them; decoded once, then mapped.

torchvision's import costs seconds at every start, so later starts do without it.
"""

import errno
import hashlib
import http.client
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.config import DATASETS, TrainingConfig
from trainer.data.dataset import Array, Dataset, channel_counts, statistics_of
from trainer.data.residence import fits_on_device, placed
from trainer.data.shelf import About, Shelf, data_directory, shelf_named
from trainer.errors import ConfigError, Unavailable

SILENCE_S = 30.0
"""How long a server may say nothing before a download is given up."""

ROWS_AT_ONCE = 4096

_FAILED_DOWNLOAD = (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException, tarfile.TarError)
"""What torchvision's downloader raises without network, for a damaged file, on a full disk."""

_UNUSABLE = frozenset(
    getattr(errno, name) for name in ("EEXIST", "ENOTDIR", "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "ELOOP")
)
"""What the system says where files cannot be written; what a network says has other numbers or none."""


@dataclass(frozen=True)
class Arrays:
    """A whole data set: uint8 [N, 3, px, px], the training images first and then those without labels; int64 [N]."""

    train: Array
    train_classes: Array
    test: Array
    test_classes: Array

    @property
    def size_bytes(self) -> int:
        """Of all images."""
        return self.train.nbytes + self.test.nbytes


ARRAYS = ("train", "train_classes", "test", "test_classes")


def load_named(config: TrainingConfig, device: torch.device) -> Dataset:
    """The data set from `data_dir`, downloaded where it is missing; raises ConfigError when it cannot be had."""
    name, data_dir = config.dataset, data_directory(config.data_dir)
    shelf, remarks = shelf_named(data_dir, name), []
    kept = _kept(shelf, name)
    if kept is None:
        with shelf.lock() as unwritable:
            kept = _kept(shelf, name)  # another rank may have been quicker
            if kept is None:
                arrays, class_names = _from_torchvision(name, data_dir)
                kept = arrays, _about(arrays, class_names)
                hindrance = unwritable or shelf.lack_of_room(arrays.size_bytes)
                if hindrance is None:
                    kept = _keep(shelf, name, *kept)
                else:
                    remarks.append(f"dataset {name}: decoded again at every start, since {hindrance}")
    arrays, about = kept
    resident = fits_on_device(config.loading, arrays.size_bytes, device)
    return Dataset(
        facts=DATASETS[name],
        train=placed(arrays.train, device, resident=resident),
        train_classes=torch.from_numpy(np.array(arrays.train_classes)),
        test=placed(arrays.test, device, resident=resident),
        test_classes=torch.from_numpy(np.array(arrays.test_classes)),
        mean=torch.tensor(about.mean),
        std=torch.tensor(about.std),
        class_names=tuple(about.class_names),
        fingerprint=about.fingerprint,
        remarks=tuple(remarks),
    )


def _kept(shelf: Shelf, name: str) -> tuple[Arrays, About] | None:
    about = shelf.about()
    found = [shelf.array(part) for part in ARRAYS] if about else []
    whole = [array for array in found if array is not None]
    if about is None or len(whole) < len(ARRAYS):
        return None
    arrays = Arrays(*whole)
    facts = DATASETS[name]
    expected = (facts.train_images + facts.extra_unlabelled, facts.train_images, facts.test_images, facts.test_images)
    return (arrays, about) if tuple(map(len, whole)) == expected else None


def _keep(shelf: Shelf, name: str, arrays: Arrays, about: About) -> tuple[Arrays, About]:
    try:
        for part in ARRAYS:
            array: Array = getattr(arrays, part)
            blocks = (array[start : start + ROWS_AT_ONCE] for start in range(0, len(array), ROWS_AT_ONCE))
            shelf.keep_array(part, blocks, len(array), array.shape[1:], array.dtype)
        shelf.keep_about(about)
    except OSError as error:
        raise Unavailable(f"dataset {name}: {shelf.directory} cannot be written: {error.strerror}") from None
    kept = _kept(shelf, name)
    if kept is None:
        raise ConfigError(f"dataset {name}: {shelf.directory} does not hold what was written there; is its disk sound?")
    return kept


def _about(arrays: Arrays, class_names: list[str]) -> About:
    """Statistics over the images that have a class."""
    counts, fingerprint = torch.zeros(3, 256, dtype=torch.int64), hashlib.sha256()
    for part in ARRAYS:
        array: Array = getattr(arrays, part)
        for start in range(0, len(array), ROWS_AT_ONCE):
            rows = np.ascontiguousarray(array[start : start + ROWS_AT_ONCE])
            fingerprint.update(rows.data)
            if part == "train":
                counts += channel_counts(torch.from_numpy(rows[: max(0, len(arrays.train_classes) - start)]))
    mean, std = statistics_of(counts)
    return About(
        fingerprint=fingerprint.hexdigest()[:16], class_names=class_names, mean=mean.tolist(), std=std.tolist()
    )


def _from_torchvision(name: str, data_dir: Path) -> tuple[Arrays, list[str]]:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ConfigError(f"dataset {name}: needs torchvision, which cannot be imported ({error})") from None
    kind, splits = {
        "cifar10": (datasets.CIFAR10, _BY_TRAIN),
        "cifar100": (datasets.CIFAR100, _BY_TRAIN),
        "svhn": (datasets.SVHN, _BY_SPLIT),
        "stl10": (datasets.STL10, {"train": {"split": "train+unlabeled"}, "test": {"split": "test"}}),
    }[name]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _patience():
            train, test = (kind(str(data_dir), download=True, **splits[split]) for split in ("train", "test"))
    except _FAILED_DOWNLOAD as error:
        if isinstance(error, OSError) and error.errno in _UNUSABLE:
            raise Unavailable(
                f"dataset {name}: {error.filename or data_dir} cannot be used for its files: {error.strerror}; "
                "set data_dir to a directory that can be written and has room"
            ) from None
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise Unavailable(
            f"dataset {name}: {data_dir} has no whole copy and it could not be downloaded ({reason}); "
            f"put there what these addresses give, or set data_dir: {', '.join(_sources(kind))}"
        ) from None
    train_classes, test_classes = _classes(train), _classes(test)
    class_names = [str(label) for label in getattr(train, "classes", range(DATASETS[name].classes))]
    labelled = train_classes >= 0
    return Arrays(_channels_first(train), train_classes[labelled], _channels_first(test), test_classes), class_names


_BY_TRAIN: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_BY_SPLIT: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}


def _channels_first(dataset: Any) -> Array:
    data: Array = dataset.data
    return data if data.shape[1] == 3 else data.transpose(0, 3, 1, 2)


def _classes(dataset: Any) -> Array:
    return np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels, dtype=np.int64)


def _sources(kind: Any) -> list[str]:
    """Where torchvision would download from: one archive, or a file a split."""
    if hasattr(kind, "url"):
        return [kind.url]
    return [kind.split_list[split][0] for split in ("train", "test")]


@contextmanager
def _patience() -> Iterator[None]:
    """Give up on servers that say nothing; torchvision sets no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
