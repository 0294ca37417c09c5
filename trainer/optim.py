"""Learning rate and update over flat tensors.

Not torch.optim: its first step imports torch's compiler, which costs every start and resume 2.7 s.
"""

import math

from torch import Tensor

from trainer.config import Optimizer, Schedule


def learning_rate(step: int, total_steps: int, peak: float, setting: Schedule) -> float:
    """The rate of a step counted from 0: a linear warm-up, then the schedule's shape down to the last step."""
    warmup_steps = round(setting.warmup * total_steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if setting.name == "constant":
        return peak
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def sgd_update(weights: Tensor, gradients: Tensor, momentum: Tensor, setting: Optimizer, lr: float) -> None:
    """One step of SGD as torch.optim.SGD defines it (L2 penalty, no dampening); overwrites `gradients`."""
    gradients.add_(weights, alpha=setting.weight_decay)
    momentum.mul_(setting.momentum).add_(gradients)
    if setting.nesterov:
        weights.add_(gradients.add_(momentum, alpha=setting.momentum), alpha=-lr)
    else:
        weights.add_(momentum, alpha=-lr)
