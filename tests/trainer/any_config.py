"""Configurations of runs of a second or so, drawn at random: any setting may come with any other."""

from pathlib import Path
from random import Random
from typing import Any

from tests.trainer.images import PX
from trainer.config import TrainingConfig

SHARDS = 4


def draw_config(draws: Random, images: Path) -> dict[str, Any]:
    """A valid configuration for the built-in digits or for the folders of `make_folders`."""
    precision = draws.choice(("fp32", "fp32", "bf16", "bf16", "fp16"))
    labelled = SHARDS * draws.randint(1, 3)
    config: dict[str, Any] = {
        **draw_data(draws, images),
        "method": draws.choice(("mean_teacher", "mean_teacher", "mean_teacher", "supervised")),
        "steps": draws.randint(8, 20),
        "labelled_batch": max(labelled, 2 * SHARDS),
        "batch": max(labelled, 2 * SHARDS) + SHARDS * draws.randint(1, 3),
        "shards": SHARDS,
        "threads": draws.choice((1, 1, 1, 1, 2)),
        "evaluate_every": draws.randint(3, 9),
        "precision": precision,
        "channels_last": draws.choice((True, False, "auto")),
        "seed": draws.randrange(1000),
        "model": {
            # Processors are slow at convolutions in fp16, and this stem has a fraction of them.
            "stem": "imagenet" if precision == "fp16" else draws.choice(("cifar", "imagenet", "auto")),
            "checkpoint_activations": draws.random() < 0.3,
        },
        "optimizer": draw_optimizer(draws),
        "schedule": {
            "name": draws.choice(("cosine", "linear", "step", "constant")),
            "warmup": draws.choice((0.0, 0.3)),
        },
        "consistency": {
            "loss": draws.choice(("mse", "kl")),
            "weight": draws.choice((0.0, 1.0, 10.0)),
            "ramp_up": draws.choice((0.0, 0.4)),
            "on_labelled": draws.random() < 0.5,
            "second_head": draws.random() < 0.3,
        },
        "ema": {
            "decay": draws.choice((0.0, 0.9)),
            "decay_after_ramp_up": draws.choice((None, 0.99)),
            "batch_norm": draws.choice(("own", "averaged")),
        },
        "augmentation": draw_augmentation(draws),
    }
    TrainingConfig.model_validate(config)
    return config


def draw_data(draws: Random, images: Path) -> dict[str, Any]:
    if draws.random() < 0.5:
        return {"dataset": "digits", "labels": draws.choice((50, "10%", 33))}
    folders = {"labelled": str(images / "labelled"), "test": str(images / "test"), "image_px": draws.choice((8, PX))}
    if draws.random() < 0.5:
        folders["unlabelled"] = str(images / "unlabelled")
    return {"dataset": "folder", "folders": folders, "labels": draws.choice((4, "50%", "100%"))}


def draw_optimizer(draws: Random) -> dict[str, Any]:
    name = draws.choice(("sgd", "adamw", "lamb"))
    return {
        "name": name,
        "lr": 0.02 if name == "sgd" else 1e-3,
        "momentum": draws.choice((0.0, 0.9)),
        "nesterov": draws.random() < 0.5,
        "weight_decay": draws.choice((0.0, 1e-2)),
        "decay_all": draws.random() < 0.5,
        "clip_norm": draws.choice((None, 0.5)),
    }


def draw_augmentation(draws: Random) -> dict[str, Any]:
    """Each part in it half of the time."""
    parts: dict[str, Any] = {
        "flip": True,
        "translate_px": 2,
        "rotate_degrees": 15.0,
        "scale": 0.1,
        "shear": 0.1,
        "crop_area": 0.5,
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.3,
        "hue": 0.1,
        "cutout": 0.3,
        "policy": "strong",
        "noise": 0.0,
        "teacher_noise": 0.3,
    }
    return {name: value for name, value in parts.items() if draws.random() < 0.5}


def draw_loading(draws: Random) -> dict[str, Any]:
    """How the images come, which must make no difference."""
    if draws.random() < 0.4:
        return {"images": "device"}
    return {"images": "stream", "workers": draws.choice((0, 1, 2)), "prefetch": draws.randint(1, 3)}
