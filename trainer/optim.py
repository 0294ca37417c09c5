"""Learning rate and update over flat tensors: SGD, AdamW, LAMB.

Not torch.optim: its first step imports torch's compiler, which costs every start and resume 2.7 s.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from trainer.config import Optimizer, Schedule

Views = Callable[[Tensor], dict[str, Tensor]]
"""From a flat tensor that is laid out as the weights to views of it by parameter name."""

Slots = dict[str, Tensor]
"""What an optimiser remembers, by name."""

SLOTS = {"sgd": ("momentum",), "adamw": ("exp_avg", "exp_avg_sq"), "lamb": ("exp_avg", "exp_avg_sq")}
"""Their names for each optimiser, as in torch.optim."""

WHOLE = slice(None)
NORM_CHUNK = 2**18
"""How many numbers have their squares added up in a row."""


def learning_rate(update: int, total_steps: int, peak: float, setting: Schedule) -> float:
    """The rate of an update counted from 0: a linear warm-up, then the schedule's shape down to the last step."""
    warmup_steps = round(setting.warmup * total_steps)
    if update < warmup_steps:
        return peak * (update + 1) / warmup_steps
    if setting.name == "constant":
        return peak
    if setting.name == "step":
        passed = sum(update >= round(milestone * total_steps) for milestone in setting.milestones)
        return peak * setting.factor**passed
    progress = (update - warmup_steps) / max(1, total_steps - warmup_steps)
    if setting.name == "linear":
        return peak * (1.0 - progress)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


class Updater:
    """Moves the weights by their gradients; `slots` are what it remembers, flat tensors laid out as the weights."""

    def __init__(self, setting: Optimizer, weights: Tensor, views: Views) -> None:
        self._setting, self._views = setting, views
        self.slots: Slots = {name: torch.zeros_like(weights) for name in SLOTS[setting.name]}

    @property
    def is_separable(self) -> bool:
        """Whether each weight is moved by its own gradient alone, so that parts of them can be updated apart."""
        setting = self._setting
        return setting.name != "lamb" and setting.decay_all and setting.clip_norm is None

    def update(self, weights: Tensor, gradients: Tensor, lr: float, number: int, part: slice = WHOLE) -> None:
        """One update, counted from 1, in place; overwrites `gradients`. Of a part only, if it is separable."""
        if self._setting.clip_norm is not None:
            clip(gradients, self._setting.clip_norm)
        slots = {name: slot[part] for name, slot in self.slots.items()}
        if self._setting.name == "sgd":
            self._sgd(weights[part], gradients[part], slots, lr)
        elif self._setting.name == "adamw":
            self._adamw(weights[part], gradients[part], slots, lr, number)
        else:
            self._lamb(weights, gradients, slots, lr, number)

    def _sgd(self, weights: Tensor, gradients: Tensor, slots: Slots, lr: float) -> None:
        """As torch.optim.SGD defines it: decay as an L2 penalty, no dampening."""
        setting = self._setting
        if not setting.decay_all:
            self._add_decay(gradients, weights)
        torch._fused_sgd_(  # in one pass over the memory, where single operations take five
            [weights],
            [gradients],
            [slots["momentum"]] if setting.momentum else [],
            weight_decay=setting.weight_decay if setting.decay_all else 0.0,
            momentum=setting.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=setting.nesterov and setting.momentum > 0,
            maximize=False,
            is_first_step=False,
        )

    def _adamw(self, weights: Tensor, gradients: Tensor, slots: Slots, lr: float, number: int) -> None:
        """Loshchilov and Hutter, 2019, as torch.optim.AdamW defines it: the decay is no part of the gradient."""
        kept = 1.0 - lr * self._setting.weight_decay
        if self._setting.decay_all:
            weights.mul_(kept)
        else:
            torch._foreach_mul_(self._decaying(weights), kept)
        weights.add_(self._adam_direction(gradients, slots, number), alpha=-lr)

    def _lamb(self, weights: Tensor, gradients: Tensor, slots: Slots, lr: float, number: int) -> None:
        """You et al., 2020: AdamW's step and decay together, scaled to each tensor's own length.

        As timm's Lamb without its own clipping: no bound on the ratio, and what does not decay is not scaled either.
        """
        direction = self._adam_direction(gradients, slots, number)
        if self._setting.weight_decay > 0:
            self._add_decay(direction, weights)
            steps = self._decaying(direction)
            ratios = trust_ratios(self._decaying(weights), steps)
            torch._foreach_mul_(steps, ratios)
        weights.add_(direction, alpha=-lr)

    def _adam_direction(self, gradients: Tensor, slots: Slots, number: int) -> Tensor:
        """Adam's step at a rate of 1: the mean of gradients over the root of that of squares, both unbiased.

        It takes the place of the gradients, so that no memory is needed for it.
        """
        setting, mean, square = self._setting, slots["exp_avg"], slots["exp_avg_sq"]
        mean.lerp_(gradients, 1.0 - setting.beta1)
        square.mul_(setting.beta2).addcmul_(gradients, gradients, value=1.0 - setting.beta2)
        spread = torch.sqrt(square, out=gradients).div_(math.sqrt(1.0 - setting.beta2**number)).add_(setting.eps)
        return torch.div(mean, spread, out=gradients).div_(1.0 - setting.beta1**number)

    def _add_decay(self, to: Tensor, weights: Tensor) -> None:
        """Add the weights that decay, times the setting."""
        if self._setting.decay_all:
            to.add_(weights, alpha=self._setting.weight_decay)
        else:
            torch._foreach_add_(self._decaying(to), self._decaying(weights), alpha=self._setting.weight_decay)

    def _decaying(self, flat: Tensor) -> list[Tensor]:
        """The parts of a flat tensor whose parameters decay; those of BatchNorm, and biases, have one dimension."""
        return [view for view in self._views(flat).values() if self._setting.decay_all or view.dim() > 1]


def clip(gradients: Tensor, norm: float) -> None:
    """Scale gradients down to this norm where they are longer, as torch.nn.utils.clip_grad_norm_; asks no device."""
    # Of all at once it would be too short by 4e-4 in float32: a CPU adds up eleven million squares one after the other.
    length = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(torch.split(gradients, NORM_CHUNK)))))
    gradients.mul_((norm / (length + 1e-6)).clamp_(max=1.0))


def trust_ratios(weights: list[Tensor], steps: list[Tensor]) -> list[Tensor]:
    """Length of each tensor of weights over that of its step; 1 where one of them is 0. On the device, unread."""
    lengths, step_lengths = (torch.stack(list(torch._foreach_norm(part))) for part in (weights, steps))
    usable = (lengths > 0) & (step_lengths > 0)
    return list(torch.where(usable, lengths / step_lengths, torch.ones_like(lengths)).unbind())
