"""Measures how many views a second augmentation makes, beside torchvision's transforms, and prints the table.

    uv run python -m benchmarks.augmentation             # under a minute on two cores
    uv run python -m benchmarks.augmentation --px 224 --batch 64

Both begin with uint8 RGB images in memory and end with a float32 batch in 0..1. torchvision draws once a call, so what
is to be drawn for each sample goes through it an image at a time, as in a data loader's process. The two take turns.
Several threads of one measurement wait for each other on cores that others use too: measure those on idle ones.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.conditions import conditions
from benchmarks.figures import Figure, Findings, as_markdown
from trainer.augment import augment, to_unit_range
from trainer.config import Augmentation

LEAST_S = 0.5
"""Each measurement goes on for so long."""


@dataclass(frozen=True)
class Case:
    """The same kind of view, ours and torchvision's."""

    name: str
    setting: dict[str, Any]
    theirs: Callable[[int], list[Any]]
    """For images of this size."""


def _weak(px: int) -> list[Any]:
    return [v2.RandomHorizontalFlip(), v2.RandomCrop(px, padding=px // 8, padding_mode="reflect")]


def _affine(_px: int) -> list[Any]:
    bilinear = v2.InterpolationMode.BILINEAR
    degrees = 5.7  # a slant of a tenth
    return [
        v2.RandomHorizontalFlip(),
        v2.RandomAffine(15, translate=(1 / 8, 1 / 8), scale=(0.9, 1.1), shear=degrees, interpolation=bilinear),
    ]


AFFINE = {"flip": True, "rotate_degrees": 15.0, "scale": 0.1, "shear": 0.1}
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
STILL = {"flip": False, "translate_px": 0}

CASES = (
    Case("flip, shift", {"flip": True}, _weak),
    Case("flip, shift, rotation, scale, shear", AFFINE, _affine),
    Case(
        "flip, random resized crop",
        {"flip": True, "translate_px": 0, "crop_area": 0.5},
        lambda px: [v2.RandomHorizontalFlip(), v2.RandomResizedCrop(px, scale=(0.5, 1.0), antialias=False)],
    ),
    Case("colour jitter", STILL | JITTER, lambda _px: [v2.ColorJitter(0.4, 0.4, 0.4, 0.1)]),
    Case(
        "cutout", STILL | {"cutout": 0.5}, lambda _px: [v2.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0))]
    ),
    Case(
        "flip, shift, strong policy",
        {"flip": True, "policy": "strong"},
        lambda px: [*_weak(px), v2.RandAugment(num_ops=2, magnitude=15)],
    ),
)


def main() -> None:
    """Measure every case in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--px", type=int, default=32, help="height and width of the images (32)")
    parser.add_argument("--batch", type=int, default=128, help="images a view is made of at once (128)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1, as a worker has by default)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="ours runs there")
    parser.add_argument("--runs", type=int, default=3, help="of each (3)")
    given = parser.parse_args()
    started_at, load_before = datetime.now(UTC), os.getloadavg()[0]
    torch.set_num_threads(given.threads)
    figures: list[Figure] = []
    for case in CASES:
        figures += _measured(case, given.px, given.batch, given.runs, torch.device(given.device))
    command = " ".join(["python -m benchmarks.augmentation", *sys.argv[1:]])
    size = f"views of {given.batch} RGB images of {given.px} px at once, torch threads: {given.threads}"
    facts = [("what", f"{size}; ours on {given.device}, torchvision {version('torchvision')} on the CPU")]
    print(as_markdown([Findings(tuple(figures))], [*facts, *conditions(command, started_at, load_before, given.runs)]))


def _measured(case: Case, px: int, batch: int, runs: int, device: torch.device) -> list[Figure]:
    """The views a second of both, and how many times ours are of theirs, run by run."""
    pixels = torch.randint(0, 256, (batch, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours, theirs = _ours(case, pixels.to(device)), _theirs(case, pixels)
    ours(), theirs()
    rates = [(_rate(ours, batch, device), _rate(theirs, batch, device)) for _ in range(runs)]
    return [
        Figure(case.name, "images/s", tuple(mine for mine, _ in rates)),
        Figure(f"{case.name}: torchvision", "images/s", tuple(other for _, other in rates)),
        Figure(f"{case.name}: ours by torchvision's", "times", tuple(mine / other for mine, other in rates)),
    ]


def _ours(case: Case, pixels: Tensor) -> Callable[[], Tensor]:
    setting, draws = Augmentation.model_validate(case.setting), torch.Generator(pixels.device).manual_seed(0)
    fill = torch.full((3,), 0.5, device=pixels.device)
    return lambda: augment(to_unit_range(pixels), setting, draws, mirrors=True, fill=fill)


def _theirs(case: Case, pixels: Tensor) -> Callable[[], Tensor]:
    transform = v2.Compose([*case.theirs(pixels.shape[-1]), v2.ToDtype(torch.float32, scale=True)])
    return lambda: torch.stack([transform(image) for image in pixels])


def _rate(make: Callable[[], Tensor], batch: int, device: torch.device) -> float:
    """Images a second."""
    views, start_s = 0, time.perf_counter()
    while time.perf_counter() - start_s < LEAST_S:
        make()
        if device.type == "cuda":
            torch.cuda.synchronize()
        views += 1
    return batch * views / (time.perf_counter() - start_s)


if __name__ == "__main__":
    main()
