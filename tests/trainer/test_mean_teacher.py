"""The formulas of Mean Teacher."""

import math

import pytest
import torch

from trainer.config import Ema
from trainer.mean_teacher import class_loss, consistency_weight, ema_decay, follow, mse_loss

SLOW = Ema(decay=0.99)


def test_the_decay_warms_up_from_a_half() -> None:
    assert [ema_decay(update, SLOW, ramped_up=False) for update in (1, 2, 3)] == pytest.approx([1 / 2, 2 / 3, 3 / 4])
    assert ema_decay(98, SLOW, ramped_up=False) < 0.99
    assert ema_decay(99, SLOW, ramped_up=False) == ema_decay(10_000, SLOW, ramped_up=False) == 0.99


def test_the_first_teacher_forgets_half_of_its_start() -> None:
    teacher, student = torch.tensor([0.0, 4.0]), torch.tensor([2.0, 0.0])
    follow(teacher, student, ema_decay(1, SLOW, ramped_up=False))
    assert teacher.tolist() == [1.0, 2.0]


def test_the_consistency_weight_ramps_up_as_the_papers_sigmoid() -> None:
    assert consistency_weight(0, 100, 8.0) == pytest.approx(8 * math.exp(-5))
    assert consistency_weight(50, 100, 8.0) == pytest.approx(8 * math.exp(-5 / 4))
    assert consistency_weight(100, 100, 8.0) == consistency_weight(1000, 100, 8.0) == 8.0
    assert consistency_weight(0, 0, 8.0) == 8.0


def test_consistency_is_the_squared_distance_of_probabilities_mean_over_classes() -> None:
    student = torch.tensor([[10.0, 0.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.0, 10.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    p = 1 / (1 + math.exp(-10))
    loss = mse_loss(student, teacher, batch=2)
    assert loss.item() == pytest.approx((2 * p - 1) ** 2 / 2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_the_class_loss_is_divided_by_the_whole_batch() -> None:
    logits, classes = torch.zeros(3, 10), torch.tensor([1, 2, 3])
    assert class_loss(logits, classes, batch=12).item() == pytest.approx(3 * math.log(10) / 12)
