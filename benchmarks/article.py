"""The plain loop that the trainer is measured against: Mean Teacher as an article's listing writes it.

    python -m benchmarks.article IMAGES_DIR --px 32 --stem cifar --steps 6

Separate forward passes for labelled images, unlabelled images and the teacher; float32; a DataLoader of PIL images and
torchvision's transforms, sample by sample; an EMA parameter by parameter; `.item()` at every step. Its faults that
would make the two incomparable are mended: the labelled images cycle, the consistency is on softmax outputs, the two
networks see views drawn apart. Model, batch and losses are those of the trainer's run beside it; the model is
torchvision's ResNet-18 as it is (`--stem imagenet`), or with the stem for small images (`--stem cifar`). Prints images
a second between the end of the first step and the end of the last.
"""

import argparse
import copy
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import resnet18

BATCH, LABELLED_BATCH, CLASSES = 128, 32, 10
EMA_DECAY, WEIGHT = 0.97, 30.0


class Pictures(Dataset[tuple[Tensor, Tensor, int]]):
    """Decoded once and kept, as torchvision's CIFAR-10 keeps them; transformed anew each time, in two views."""

    def __init__(self, paths: list[Path], px: int) -> None:
        self._images = [Image.open(path).convert("RGB") for path in paths]
        for image in self._images:
            image.load()
        self._classes = [int(path.parent.name) for path in paths]
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(px, padding=px // 8),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        image = self._images[index]
        return self._transform(image), self._transform(image), self._classes[index]


def train(directory: Path, px: int, stem: str, steps: int, device: torch.device) -> Iterator[float]:
    """The moment at which each step has ended."""
    paths = sorted(directory.rglob("*.png"))
    workers = min(2, len(os.sched_getaffinity(0)))
    labelled = DataLoader(Pictures(paths[::10], px), LABELLED_BATCH, shuffle=True, num_workers=workers, drop_last=True)
    others = DataLoader(Pictures(paths, px), BATCH - LABELLED_BATCH, shuffle=True, num_workers=workers, drop_last=True)
    student = resnet18(num_classes=CLASSES)
    if stem == "cifar":
        student.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        student.maxpool = nn.Identity()
    student = student.to(device)
    teacher = copy.deepcopy(student)
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=2e-4)
    for (images, _, classes), (mine, theirs, _) in zip(_forever(labelled), _forever(others), strict=False):
        class_loss = F.cross_entropy(student(images.to(device)), classes.to(device))
        with torch.no_grad():
            targets = teacher(theirs.to(device)).softmax(dim=1)
        consistency = F.mse_loss(student(mine.to(device)).softmax(dim=1), targets)
        loss = class_loss + WEIGHT * consistency
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for average, parameter in zip(teacher.parameters(), student.parameters(), strict=True):
            average.mul_(EMA_DECAY).add_(parameter.detach(), alpha=1 - EMA_DECAY)
        loss.item()
        yield time.perf_counter()
        steps -= 1
        if not steps:
            return


def _forever(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="one directory a class, named by its number, with PNG images")
    parser.add_argument("--px", type=int, default=32)
    parser.add_argument("--stem", choices=("imagenet", "cifar"), default="imagenet")
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    moments = list(train(given.directory, given.px, given.stem, given.steps, device))
    print(BATCH * (len(moments) - 1) / (moments[-1] - moments[0]))


if __name__ == "__main__":
    main()
