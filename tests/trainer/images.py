"""Small image files for tests: directories of classes, each image of a colour and noise of its own."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.config import TrainingConfig

PX = 12
CLASSES = ("cat", "dog", "owl")


def picture(seed: int, width: int = 20, height: int = 16) -> Image.Image:
    """Noise around a colour, so that no two are alike."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(40, 216, size=3)
    noise = rng.integers(-40, 40, size=(height, width, 3))
    return Image.fromarray((colour + noise).astype(np.uint8))


def save_pictures(directory: Path, count: int, first_seed: int, suffix: str = ".png") -> None:
    """So many files in one directory, named by number."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(first_seed + number).save(directory / f"{number:02d}{suffix}")


def make_folders(root: Path, *, each: int = 6, unlabelled: int = 10, test_each: int = 3) -> Path:
    """labelled/<class>, test/<class>, and unlabelled/ in two depths."""
    for number, name in enumerate(CLASSES):
        save_pictures(root / "labelled" / name, each, 100 * number)
        save_pictures(root / "test" / name, test_each, 1000 + 100 * number)
    save_pictures(root / "unlabelled", unlabelled // 2, 2000)
    save_pictures(root / "unlabelled" / "more" / "deep", unlabelled - unlabelled // 2, 2100)
    return root


def config_of(root: Path, *, loading: dict[str, Any] | None = None, **changes: Any) -> TrainingConfig:
    """A run on such directories; those of `folders` change its section."""
    folders = {
        "labelled": str(root / "labelled"),
        "unlabelled": str(root / "unlabelled"),
        "test": str(root / "test"),
        "image_px": PX,
        **changes.pop("folders", {}),
    }
    return TrainingConfig.model_validate(
        {
            "dataset": "folder",
            "folders": folders,
            "data_dir": str(root.parent / "data"),
            "labels": "100%",
            "steps": 10,
            "batch": 8,
            "labelled_batch": 4,
            "shards": 2,
            "loading": loading or {},
            **changes,
        }
    )
