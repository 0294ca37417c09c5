"""Mean Teacher (Tarvainen and Valpola, NeurIPS 2017): the pull towards the teacher and how the teacher follows.

Every loss is summed over images and divided by the whole batch, so that shards add up.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import Ema


def class_loss(logits: Tensor, classes: Tensor, batch: int) -> Tensor:
    """Cross-entropy of the labelled images, divided by the whole batch as in the paper's code.

    Dividing by the number of labelled ones would change what the consistency weight means.
    """
    return F.cross_entropy(logits, classes, reduction="sum") / batch


def mse_loss(student_logits: Tensor, teacher_logits: Tensor, batch: int) -> Tensor:
    """Squared distance of the softmax outputs [N, classes], mean over classes; its gradient for the student only."""
    distance = student_logits.softmax(dim=1) - teacher_logits.detach().softmax(dim=1)
    return distance.square().mean(dim=1).sum() / batch


def kl_loss(student_logits: Tensor, teacher_logits: Tensor, batch: int) -> Tensor:
    """Divergence of the student's softmax output from the teacher's; its gradient for the student only."""
    targets = teacher_logits.detach().log_softmax(dim=1)
    return F.kl_div(student_logits.log_softmax(dim=1), targets, reduction="sum", log_target=True) / batch


CONSISTENCY_LOSSES = {"mse": mse_loss, "kl": kl_loss}
"""By their names in the config."""


def head_distance(class_logits: Tensor, consistency_logits: Tensor, batch: int) -> Tensor:
    """Squared distance between the logits of the two heads, mean over classes: what ties them together."""
    return (class_logits - consistency_logits).square().mean(dim=1).sum() / batch


def consistency_weight(step: int, ramp_steps: float, full_weight: float) -> float:
    """The weight at a step counted from 0: full_weight * exp(-5 (1 - t)^2), t rising to 1 over ramp_steps."""
    t = min(1.0, step / ramp_steps) if ramp_steps > 0 else 1.0
    return full_weight * math.exp(-5.0 * (1.0 - t) ** 2)


def ema_decay(update: int, setting: Ema, *, ramped_up: bool) -> float:
    """The decay of an update counted from 1: min(1 - 1/(update + 1), decay), so early teachers forget their start."""
    later = setting.decay_after_ramp_up
    return min(1.0 - 1.0 / (update + 1), later if ramped_up and later is not None else setting.decay)


def follow(teacher: Tensor, student: Tensor, decay: float) -> None:
    """Move a tensor of the teacher: teacher = decay * teacher + (1 - decay) * student, in place."""
    with torch.no_grad():
        teacher.lerp_(student, 1.0 - decay)
