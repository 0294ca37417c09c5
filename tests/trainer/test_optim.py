"""Updates are those of torch.optim and timm, at the rates of the schedule, over flat tensors."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from timm.optim.lamb import Lamb
from torch import Tensor

from trainer.config import Model, Optimizer, Schedule
from trainer.model import build_model
from trainer.network import FlatNetwork
from trainer.optim import Updater, clip, learning_rate

SHAPES = {"conv": (6, 3, 3, 3), "norm.weight": (6,), "norm.bias": (6,), "fc": (4, 6), "fc.bias": (4,), "zero": (5, 2)}
"""The kinds of tensors that a network has, and one that starts at zero, as a layer may: it has no length."""

RATES = (0.1, 0.05, 0.05, 0.02, 0.01, 0.001)


def views(flat: Tensor) -> dict[str, Tensor]:
    sizes = [torch.Size(shape).numel() for shape in SHAPES.values()]
    parts = torch.split(flat, sizes)
    return {name: part.view(shape) for (name, shape), part in zip(SHAPES.items(), parts, strict=True)}


def start() -> Tensor:
    size = sum(torch.Size(shape).numel() for shape in SHAPES.values())
    weights = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    views(weights)["zero"].zero_()
    return weights


def gradients() -> Iterator[Tensor]:
    """One for each rate; `zero` has none at first."""
    generator = torch.Generator().manual_seed(1)
    for number in range(len(RATES)):
        found = torch.randn(start().shape, generator=generator, dtype=torch.float64)
        if number < 2:
            views(found)["zero"].zero_()
        yield found


def ours(setting: Optimizer) -> Tensor:
    """The weights after all updates of ours."""
    weights = start()
    updater = Updater(setting, weights, views)
    for number, (lr, gradient) in enumerate(zip(RATES, gradients(), strict=True), start=1):
        updater.update(weights, gradient.clone(), lr, number)
    return weights


Make = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


def theirs(setting: Optimizer, make: Make) -> Tensor:
    """The weights after all updates of the optimiser that `make` makes of groups of parameters."""
    weights = start()
    parameters = {name: view.clone().requires_grad_() for name, view in views(weights).items()}
    decaying = [p for p in parameters.values() if setting.decay_all or p.dim() > 1]
    others = [p for p in parameters.values() if not setting.decay_all and p.dim() == 1]
    groups = [{"params": decaying, "weight_decay": setting.weight_decay}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    optimizer = make(groups)
    for lr, gradient in zip(RATES, gradients(), strict=True):
        for name, view in views(gradient).items():
            parameters[name].grad = view.clone()
        for group in optimizer.param_groups:
            group["lr"] = lr
        if setting.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), setting.clip_norm)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in parameters.values()])


DECAYS = pytest.mark.parametrize("decay_all", [True, False])
CLIPS = pytest.mark.parametrize("clip_norm", [None, 1.0])


@DECAYS
@CLIPS
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.8, True), (0.8, False), (0.0, False)])
def test_sgd_is_torchs(momentum: float, nesterov: bool, decay_all: bool, clip_norm: float | None) -> None:
    setting = Optimizer(
        name="sgd", momentum=momentum, nesterov=nesterov, weight_decay=0.1, decay_all=decay_all, clip_norm=clip_norm
    )
    expected = theirs(setting, lambda groups: torch.optim.SGD(groups, lr=1.0, momentum=momentum, nesterov=nesterov))
    torch.testing.assert_close(ours(setting), expected)


@DECAYS
@CLIPS
def test_adamw_is_torchs(decay_all: bool, clip_norm: float | None) -> None:
    setting = Optimizer(
        name="adamw", beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.1, decay_all=decay_all, clip_norm=clip_norm
    )
    expected = theirs(setting, lambda groups: torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.95), eps=1e-3))
    torch.testing.assert_close(ours(setting), expected)


@DECAYS
@CLIPS
@pytest.mark.parametrize("weight_decay", [0.1, 0.0])
def test_lamb_is_timms(weight_decay: float, decay_all: bool, clip_norm: float | None) -> None:
    # timm clips to a norm of 1 unless told otherwise; that is ours to do, by clip_norm.
    setting = Optimizer(
        name="lamb",
        beta1=0.8,
        beta2=0.95,
        eps=1e-3,
        weight_decay=weight_decay,
        decay_all=decay_all,
        clip_norm=clip_norm,
    )
    expected = theirs(setting, lambda groups: Lamb(groups, betas=(0.8, 0.95), eps=1e-3, max_grad_norm=None))
    torch.testing.assert_close(ours(setting), expected)


def test_what_does_not_decay_is_all_that_has_one_dimension_in_a_real_network() -> None:
    network = FlatNetwork(build_model(Model(), 10, 32, seed=0), torch.device("cpu"), channels_last=True)
    setting = Optimizer(weight_decay=0.5, momentum=0.0, nesterov=False, decay_all=False)
    before = network.weights.clone()
    Updater(setting, network.weights, network.named_weights).update(
        network.weights, torch.zeros_like(before), lr=1.0, number=1
    )
    was = network.named_weights(before)
    for name, weight in network.named_weights(network.weights).items():
        layer, _, kind = name.rpartition(".")
        decays = kind == "weight" and ("conv" in layer or layer == "fc" or layer.endswith("downsample.0"))
        assert torch.equal(weight, was[name] / 2 if decays else was[name]), name


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_an_update_needs_no_more_than_its_slots(name: str) -> None:
    # Another optimiser goes on from a checkpoint's slots alone, which is all that a resume has.
    setting = Optimizer.model_validate({"name": name, "weight_decay": 0.1})
    weights, resumed = start(), start()
    whole, first, second = (Updater(setting, weights, views) for _ in range(3))
    for number, gradient in enumerate(gradients(), start=1):
        whole.update(weights, gradient.clone(), 0.1, number)
        if number == 4:
            for slot, remembered in second.slots.items():
                remembered.copy_(first.slots[slot])
        (first if number < 4 else second).update(resumed, gradient.clone(), 0.1, number)
    assert torch.equal(resumed, weights)


def test_clipping_shortens_what_is_longer_and_leaves_the_rest() -> None:
    # In float32 and as many numbers as a ResNet-18 has, where a careless sum of squares would be off.
    gradient = torch.randn(11_000_000, generator=torch.Generator().manual_seed(0))
    long, short = gradient.clone(), gradient.clone()
    clip(long, 2.0)
    assert float(long.double().norm()) == pytest.approx(2.0, rel=1e-5)
    clip(short, 1e6)
    assert torch.equal(short, gradient)


def rates(setting: Schedule, total_steps: int = 100) -> list[float]:
    return [learning_rate(update, total_steps, 1.0, setting) for update in range(total_steps)]


@pytest.mark.parametrize("name", ["cosine", "linear", "step", "constant"])
def test_every_schedule_warms_up_to_the_peak(name: str) -> None:
    found = rates(Schedule.model_validate({"name": name, "warmup": 0.1}))
    assert found[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert found[10] == max(found) == 1.0


def test_cosine_and_linear_pass_the_half_in_the_middle_and_end_near_zero() -> None:
    for name, last in (("cosine", 0.001), ("linear", 0.012)):
        found = rates(Schedule.model_validate({"name": name, "warmup": 0.1}))
        assert found[55] == pytest.approx(0.5)
        assert found[10:] == sorted(found[10:], reverse=True)
        assert 0 < found[99] < last
    straight = rates(Schedule(name="linear", warmup=0.0))
    assert straight == pytest.approx([1 - k / 100 for k in range(100)])


def test_steps_are_at_shares_of_the_whole_run() -> None:
    # 0.29 of 100 is 28.999999999999996 in floating point, and still step 29.
    found = rates(Schedule(name="step", warmup=0.0, milestones=[0.75, 0.29], factor=0.1))
    assert found == pytest.approx([1.0] * 29 + [0.1] * 46 + [0.01] * 25)


def test_constant_stays() -> None:
    assert set(rates(Schedule(name="constant", warmup=0.0))) == {1.0}


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_an_update_loads_no_compiler(name: str) -> None:
    # What torch.optim's first step does, for seconds at each start and resume.
    script = f"""
import sys, torch
from trainer.config import Optimizer
from trainer.optim import Updater
weights = torch.ones(8)
setting = Optimizer(name={name!r}, decay_all=False, clip_norm=1.0)
before = set(sys.modules)
Updater(setting, weights, lambda flat: {{"fc": flat.view(4, 2)}}).update(weights, torch.ones(8), 0.1, 1)
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
