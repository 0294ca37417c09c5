"""Learning rate and update over flat tensors.

Not torch.optim: its first step imports torch's compiler, which costs every start and resume 2.7 s.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from trainer.config import Optimizer, Schedule

Views = Callable[[Tensor], dict[str, Tensor]]
"""From a flat tensor that is laid out as the weights to views of it by parameter name."""


def learning_rate(update: int, total_steps: int, peak: float, setting: Schedule) -> float:
    """The rate of an update counted from 0: a linear warm-up, then the schedule's shape down to the last step."""
    warmup_steps = round(setting.warmup * total_steps)
    if update < warmup_steps:
        return peak * (update + 1) / warmup_steps
    if setting.name == "constant":
        return peak
    progress = (update - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


class Updater:
    """Moves the weights by their gradients; `slots` are what it remembers, flat tensors laid out as the weights."""

    def __init__(self, setting: Optimizer, weights: Tensor, views: Views) -> None:
        self._setting, self._views = setting, views
        self.slots: dict[str, Tensor] = {"momentum": torch.zeros_like(weights)}

    def update(self, weights: Tensor, gradients: Tensor, lr: float, number: int) -> None:
        """One update, counted from 1, in place; overwrites `gradients`."""
        del number
        sgd_update(weights, gradients, self.slots["momentum"], self._setting, lr)


def sgd_update(weights: Tensor, gradients: Tensor, momentum: Tensor, setting: Optimizer, lr: float) -> None:
    """One step of SGD as torch.optim.SGD defines it (L2 penalty, no dampening); overwrites `gradients`."""
    gradients.add_(weights, alpha=setting.weight_decay)
    momentum.mul_(setting.momentum).add_(gradients)
    if setting.nesterov:
        weights.add_(gradients.add_(momentum, alpha=setting.momentum), alpha=-lr)
    else:
        weights.add_(momentum, alpha=-lr)
