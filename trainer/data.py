"""Images and labels in memory, and which of the training images keep their label.

Adding a data set: a row in `config.DATASETS` and a loader in `_LOADERS`.
"""

import gzip
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.config import DATASETS, TrainingConfig
from trainer.errors import ConfigError

SPLIT_SEED = 1797
"""Fixes what is train and what is test, for every run of every seed."""


@dataclass(frozen=True)
class Images:
    """Images [N, C, H, W] in uint8 and their classes [N] in int64."""

    pixels: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def to(self, device: torch.device) -> "Images":
        """The same on a device."""
        return Images(self.pixels.to(device), self.classes.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set, split; `mean` and `std` are of the training pixels, scaled to 0..1."""

    train: Images
    test: Images
    mean: float
    std: float

    def to(self, device: torch.device) -> "Dataset":
        """The same on a device."""
        return Dataset(self.train.to(device), self.test.to(device), self.mean, self.std)


@dataclass(frozen=True)
class Pools:
    """Indices of training images: the labelled, and those that serve without a label."""

    labelled: Tensor
    unlabelled: Tensor


def load_dataset(name: str) -> Dataset:
    """The data set by its name in the config; raises ConfigError when its files cannot be read."""
    return _LOADERS[name]()


def split_pools(config: TrainingConfig, classes: Tensor) -> Pools:
    """Choose the labelled images by the run's seed, balanced over the classes as far as each has images.

    The others are the unlabelled pool; when every image has its label, all serve without it too.
    """
    rng = np.random.default_rng([config.seed, 50])
    count = DATASETS[config.dataset].classes
    order = rng.permutation(count).tolist()
    members = [np.flatnonzero(classes.numpy() == label) for label in range(count)]
    wanted = _balanced([len(images) for images in members], config.label_count, order)
    chosen: list[int] = []
    for label in range(count):
        chosen.extend(rng.permutation(members[label])[: wanted[label]].tolist())
    labelled = torch.tensor(sorted(chosen))
    rest = torch.ones(len(classes), dtype=torch.bool)
    rest[labelled] = False
    unlabelled = torch.nonzero(rest).flatten()
    return Pools(labelled, unlabelled if len(unlabelled) else labelled)


def _balanced(sizes: list[int], total: int, order: list[int]) -> list[int]:
    """How many of each class, `total` in all: dealt out in rounds, one to each class that has more, in this order.

    So small classes give all, and the others differ by one at most.
    """
    if total > sum(sizes):
        raise ConfigError(f"labels: {total} are more than there are training images: {sum(sizes)}")
    dealt = [0] * len(sizes)
    left = total
    while left:
        with_more = [label for label in order if dealt[label] < sizes[label]][:left]
        for label in with_more:
            dealt[label] += 1
        left -= len(with_more)
    return dealt


def _load_digits() -> Dataset:
    """Scikit-learn's handwritten digits, from the installed file: importing the package would cost seconds."""
    facts = DATASETS["digits"]
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "dataset digits: its images come with scikit-learn, which is not installed: pip install scikit-learn"
        )
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"dataset digits: {path} cannot be read ({error}); install scikit-learn again") from None
    px = facts.image_px
    table = np.array(text.replace("\n", ",").rstrip(",").split(","), dtype=np.float32).reshape(-1, px * px + 1)
    table = table[np.random.default_rng(SPLIT_SEED).permutation(len(table))]
    # 0..16 in the file; 0..255 as all images here
    pixels = torch.from_numpy(np.round(table[:, :-1] * (255 / 16)).astype(np.uint8)).reshape(-1, 1, px, px)
    classes = torch.from_numpy(table[:, -1].astype(np.int64))
    train = Images(pixels[: facts.train_images], classes[: facts.train_images])
    test = Images(pixels[facts.train_images :], classes[facts.train_images :])
    scaled = train.pixels.double() / 255
    return Dataset(train, test, mean=float(scaled.mean()), std=float(scaled.std()))


_LOADERS: dict[str, Callable[[], Dataset]] = {"digits": _load_digits}
