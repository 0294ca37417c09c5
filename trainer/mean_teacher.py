"""Mean Teacher (Tarvainen and Valpola, NeurIPS 2017): the pull towards the teacher and how the teacher follows."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def class_loss(logits: Tensor, classes: Tensor, batch: int) -> Tensor:
    """Cross-entropy of the labelled images, divided by the whole batch as in the paper's code.

    Dividing by the number of labelled ones would change what the consistency weight means.
    """
    return F.cross_entropy(logits, classes, reduction="sum") / batch


def consistency_loss(student_logits: Tensor, teacher_logits: Tensor, batch: int) -> Tensor:
    """Squared distance of the softmax outputs [N, classes], its gradient for the student only.

    Mean over classes, as in the paper; summed over images and divided by the whole batch, so that shards add up.
    """
    distance = student_logits.softmax(dim=1) - teacher_logits.detach().softmax(dim=1)
    return distance.square().mean(dim=1).sum() / batch


def consistency_weight(step: int, ramp_steps: float, full_weight: float) -> float:
    """The weight at a step counted from 0: full_weight * exp(-5 (1 - t)^2), t rising to 1 over ramp_steps."""
    t = min(1.0, step / ramp_steps) if ramp_steps > 0 else 1.0
    return full_weight * math.exp(-5.0 * (1.0 - t) ** 2)


def ema_decay(update: int, decay: float) -> float:
    """The decay of an update counted from 1: min(1 - 1/(update + 1), decay), so early teachers forget their start."""
    return min(1.0 - 1.0 / (update + 1), decay)


def follow(teacher_weights: Tensor, student_weights: Tensor, decay: float) -> None:
    """Move the teacher's weights: teacher = decay * teacher + (1 - decay) * student, in place."""
    with torch.no_grad():
        teacher_weights.lerp_(student_weights, 1.0 - decay)
