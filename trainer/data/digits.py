"""scikit-learn's handwritten digits, from the installed file: importing the package would cost seconds."""

import gzip
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import torch

from trainer.config import DATASETS
from trainer.data.dataset import Dataset, ResidentPixels, channel_statistics
from trainer.errors import ConfigError

SPLIT_SEED = 1797
"""Fixes what is train and what is test, for every run of every seed."""


def load_digits(device: torch.device) -> Dataset:
    """1,797 grey images of 8x8 pixels; raises ConfigError when scikit-learn or its file is not there."""
    facts = DATASETS["digits"]
    content = _read()
    px = facts.image_px
    text = content.decode("ascii")
    table = np.array(text.replace("\n", ",").rstrip(",").split(","), dtype=np.float32).reshape(-1, px * px + 1)
    table = table[np.random.default_rng(SPLIT_SEED).permutation(len(table))]
    # 0..16 in the file; 0..255 as all images here
    pixels = torch.from_numpy(np.round(table[:, :-1] * (255 / 16)).astype(np.uint8)).reshape(-1, 1, px, px)
    classes = torch.from_numpy(table[:, -1].astype(np.int64))
    train, test = pixels[: facts.train_images], pixels[facts.train_images :]
    mean, std = channel_statistics(train)
    return Dataset(
        facts=facts,
        train=ResidentPixels(train.to(device)),
        train_classes=classes[: facts.train_images],
        test=ResidentPixels(test.to(device)),
        test_classes=classes[facts.train_images :],
        mean=mean,
        std=std,
        class_names=tuple("0123456789"),
        fingerprint=hashlib.sha256(content).hexdigest()[:16],
    )


def _read() -> bytes:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "dataset digits: its images come with scikit-learn, which is not installed: pip install scikit-learn"
        )
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    try:
        content = gzip.decompress(path.read_bytes())
        content.decode("ascii")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"dataset digits: {path} cannot be read ({error}); install scikit-learn again") from None
    return content
