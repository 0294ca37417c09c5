"""Which of the training images keep their label."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.config import Plan
from trainer.errors import ConfigError


@dataclass(frozen=True)
class Pools:
    """Indices of training images: the labelled, and those that serve without a label."""

    labelled: Tensor
    unlabelled: Tensor


def split_pools(classes: Tensor, plan: Plan, seed: int, *, extra_unlabelled: int = 0) -> Pools:
    """Choose the labelled images by the run's seed, balanced over the classes as far as each has images.

    The others are the unlabelled pool, together with `extra_unlabelled` images that follow those with a class; when
    there are none, all serve without their label too.
    """
    rng, wanted = _shares(classes, plan, seed)
    members = [np.flatnonzero(classes.numpy() == label) for label in range(plan.classes)]
    chosen: list[int] = []
    for label in range(plan.classes):
        chosen.extend(rng.permutation(members[label])[: wanted[label]].tolist())
    labelled = torch.tensor(sorted(chosen))
    rest = torch.ones(len(classes) + extra_unlabelled, dtype=torch.bool)
    rest[labelled] = False
    unlabelled = torch.nonzero(rest).flatten()
    return Pools(labelled, unlabelled if len(unlabelled) else labelled)


def labels_by_class(classes: Tensor, plan: Plan, seed: int) -> list[int]:
    """How many images of each class `split_pools` lets keep their label."""
    return _shares(classes, plan, seed)[1]


def _shares(classes: Tensor, plan: Plan, seed: int) -> tuple[np.random.Generator, list[int]]:
    """How many of each class, and the generator that chooses among them next."""
    rng = np.random.default_rng([seed, 50])
    order = rng.permutation(plan.classes).tolist()
    sizes = torch.bincount(classes, minlength=plan.classes).tolist()
    return rng, _balanced(sizes, plan.label_count, order)


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
