"""One step of Mean Teacher: who gets a gradient, who sees what, and what becomes of the statistics."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainer.launch import TINY
from trainer.augment import to_channels
from trainer.config import TrainingConfig
from trainer.data.batches import ResidentBatches
from trainer.data.dataset import Dataset
from trainer.data.digits import load_digits
from trainer.data.pools import split_pools
from trainer.network import FlatNetwork
from trainer.precision import GROW_AFTER_STEPS, Precision, next_loss_scale
from trainer.sampling import Sampler
from trainer.snapshot import Snapshot
from trainer.state import Counters, TrainState, build_state, digest, restore
from trainer.step import STATISTICS_MOMENTUM, Rates, TrainStep
from trainer.world import World

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)

CALM = {"flip": False, "translate_px": 0, "rotate_degrees": 0.0, "scale": 0.0, "shear": 0.0, "noise": 0.0}
"""Views that are the images themselves."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits(CPU)


def make(
    digits: Dataset, precision: Precision = "fp32", **changes: Any
) -> tuple[TrainState, TrainStep, TrainingConfig]:
    config = TrainingConfig.model_validate({**TINY, "precision": precision, **changes})
    plan = config.plan(digits.facts)
    state = build_state(config, plan, CPU)
    sampler = Sampler(config, split_pools(digits.train_classes, plan, config.seed))
    batches = ResidentBatches(digits, sampler, CPU)
    return state, TrainStep(config, plan, state, digits, batches, ALONE, precision), config


def record_inputs(network: FlatNetwork) -> list[Tensor]:
    """Collect what a network is given."""
    seen: list[Tensor] = []
    network.model.conv1.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    return seen


def record_outputs(network: FlatNetwork) -> list[Tensor]:
    """Collect the logits that a network gives."""
    seen: list[Tensor] = []
    network.model.fc.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    return seen


def test_the_pull_towards_the_teacher_has_a_gradient_for_the_student_and_none_for_the_teacher(digits: Dataset) -> None:
    # No ramp, a teacher apart from the student, and the same draws in both runs: only the weight differs.
    moved = {}
    for weight in (0.0, 10.0):
        state, step, _ = make(digits, consistency={"weight": weight, "ramp_up": 0.0}, ema={"decay": 0.0})
        assert state.teacher is not None
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(state.teacher.weights.shape, generator=generator)
        state.teacher.weights.add_(0.01 * noise)
        before = state.student.weights.clone()
        step.run(stop=False)
        moved[weight] = state.student.weights - before
        assert all(parameter.grad is None for parameter in state.teacher.model.parameters())
        assert step.last_outcome().consistency_loss > 0
    assert (moved[10.0] - moved[0.0]).norm() > 0.01 * moved[0.0].norm()


def test_the_pull_acts_on_labelled_images_too(digits: Dataset) -> None:
    # With one unlabelled image a shard left out of the teacher's reach, the labelled ones must still add to the loss.
    state, step, config = make(digits, ema={"decay": 0.0})
    assert state.teacher is not None
    student, teacher = record_outputs(state.student), record_outputs(state.teacher)
    step.run(stop=False)
    difference = torch.cat(student).softmax(1) - torch.cat(teacher).softmax(1)
    over_all_images = difference.square().mean(dim=1).sum() / config.batch
    assert step.last_outcome().consistency_loss == pytest.approx(float(over_all_images), rel=1e-5)


def test_student_and_teacher_see_views_of_the_same_images_drawn_apart(digits: Dataset) -> None:
    state, step, config = make(digits)
    assert state.teacher is not None
    student, teacher = record_inputs(state.student), record_inputs(state.teacher)
    step.run(stop=False)
    assert len(student) == len(teacher) == config.shards
    for mine, theirs in zip(student, teacher, strict=True):
        assert mine.shape == theirs.shape == (4, 3, 8, 8)
        assert all(not torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    calm = CALM
    state, step, _ = make(digits, augmentation=calm)
    assert state.teacher is not None
    student, teacher = record_inputs(state.student), record_inputs(state.teacher)
    step.run(stop=False)
    assert all(torch.equal(a, b) for a, b in zip(student, teacher, strict=True))


def test_running_statistics_are_the_mean_over_shards_of_each_shards_own(digits: Dataset) -> None:
    state, step, config = make(digits)
    assert state.teacher is not None
    for network in (state.student, state.teacher):
        seen = record_inputs(network)
        weights, running = network.weights.clone(), network.running.clone()
        step.run(stop=False)
        after = network.weights.clone()
        network.weights.copy_(weights)
        shards = []
        with torch.no_grad():
            for images in seen[: config.shards]:
                network.model(images)
                shards.append(network.batch_statistics.clone())
        network.weights.copy_(after)
        merged = torch.stack(shards).mean(dim=0)
        torch.testing.assert_close(network.running, running.lerp(merged, STATISTICS_MOMENTUM), rtol=1e-4, atol=1e-5)


def test_a_shards_own_statistics_are_its_mean_and_unbiased_variance(digits: Dataset) -> None:
    state, _, _ = make(digits)
    activations: list[Tensor] = []
    state.student.model.bn1.register_forward_pre_hook(lambda _module, inputs: activations.append(inputs[0].detach()))
    images = to_channels(torch.randn(8, 1, 8, 8), 3)
    state.student.model(images)
    named = state.student.state_dict(state.student.weights, state.student.batch_statistics, 0)
    torch.testing.assert_close(named["bn1.running_mean"], activations[0].mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(named["bn1.running_var"], activations[0].var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_the_teacher_follows_by_the_warmed_up_decay(digits: Dataset) -> None:
    state, step, _ = make(digits, ema={"decay": 0.6})
    assert state.teacher is not None
    for decay in (1 / 2, 0.6, 0.6):  # 1 - 1/2, then 1 - 1/3 and 1 - 1/4 are more than 0.6
        before = state.teacher.weights.clone()
        step.run(stop=False)
        expected = decay * before + (1 - decay) * state.student.weights
        torch.testing.assert_close(state.teacher.weights, expected)


def test_batches_are_counted_by_steps_not_by_forward_passes(digits: Dataset) -> None:
    state, step, _ = make(digits)
    step.run(stop=False)
    step.run(stop=False)
    snapshot = Snapshot(state)
    snapshot.take()
    assert {int(t) for name, t in snapshot.files()["student.pt"].items() if name.endswith("tracked")} == {2}


def test_the_class_loss_is_over_the_whole_batch(digits: Dataset) -> None:
    # At the start every class is about equally likely: cross-entropy is about ln 10 an image, and half are labelled.
    _, step, _ = make(digits)
    step.run(stop=False)
    _, supervised, _ = make(digits, method="supervised")
    supervised.run(stop=False)
    assert step.last_outcome().class_loss == pytest.approx(supervised.last_outcome().class_loss / 2, rel=0.5)
    assert supervised.last_outcome().consistency_loss == 0


def test_a_supervised_step_sees_the_same_labelled_images_and_no_others(digits: Dataset) -> None:
    calm = CALM
    state, step, config = make(digits, augmentation=calm)
    both = record_inputs(state.student)
    step.run(stop=False)
    state, step, _ = make(digits, augmentation=calm, method="supervised")
    alone = record_inputs(state.student)
    assert state.teacher is None
    step.run(stop=False)
    labelled = config.labelled_batch // config.shards
    assert all(torch.equal(a[:labelled], b) for a, b in zip(both, alone, strict=True))


def test_the_digest_covers_every_part_of_the_state(digits: Dataset) -> None:
    state, step, _ = make(digits)
    step.run(stop=False)

    def state_digest() -> str:
        snapshot = Snapshot(state)
        snapshot.take()
        return digest(snapshot.files(), snapshot.counters)

    seen = {state_digest()}
    for tensor in state.tensors().values():
        tensor[-1] += 1
        seen.add(state_digest())
    state.counters.step += 1
    seen.add(state_digest())
    assert len(seen) == 2 + len(state.tensors())


def test_of_two_heads_the_second_is_pulled_towards_the_teachers_first(digits: Dataset) -> None:
    state, step, config = make(digits, consistency={"second_head": True}, ema={"decay": 0.0})
    assert state.teacher is not None
    assert state.student.model.fc2 is not None
    pulled: list[Tensor] = []
    state.student.model.fc2.register_forward_hook(lambda _module, _inputs, output: pulled.append(output.detach()))
    targets = record_outputs(state.teacher)
    step.run(stop=False)
    difference = torch.cat(pulled).softmax(1) - torch.cat(targets).softmax(1)
    expected = difference.square().mean(dim=1).sum() / config.batch
    assert step.last_outcome().consistency_loss == pytest.approx(float(expected), rel=1e-5)
    assert step.last_outcome().head_distance > 0


def test_the_tie_between_two_heads_is_part_of_the_loss(digits: Dataset) -> None:
    moved = {}
    for tie in (0.0, 10.0):
        consistency = {"weight": 0.0, "second_head": True, "head_distance": tie}
        state, step, _ = make(digits, consistency=consistency, optimizer={"weight_decay": 0.0})
        before = state.student.named_weights(state.student.weights.clone())["fc2.weight"]
        step.run(stop=False)
        moved[tie] = (state.student.named_weights(state.student.weights)["fc2.weight"] - before).norm()
    assert moved[0.0] == 0
    assert moved[10.0] > 0


def test_labelled_images_can_be_left_out_of_the_pull(digits: Dataset) -> None:
    state, step, config = make(digits, consistency={"on_labelled": False}, ema={"decay": 0.0})
    assert state.teacher is not None
    student, teacher = record_outputs(state.student), record_outputs(state.teacher)
    step.run(stop=False)
    labelled = config.labelled_batch // config.shards
    over_the_others = sum(
        float((mine.softmax(1) - theirs.softmax(1))[labelled:].square().mean(dim=1).sum())
        for mine, theirs in zip(student, teacher, strict=True)
    )
    assert step.last_outcome().consistency_loss == pytest.approx(over_the_others / config.batch, rel=1e-5)


def test_the_second_decay_begins_when_the_ramp_up_is_over() -> None:
    config = TrainingConfig.model_validate(
        {**TINY, "steps": 100, "consistency": {"ramp_up": 0.5}, "ema": {"decay": 0.5, "decay_after_ramp_up": 0.9}}
    )
    assert [Rates.at(update, 100, config).ema_decay for update in (10, 49, 50, 99)] == [0.5, 0.5, 0.9, 0.9]


def test_averaged_statistics_are_those_of_the_student_followed_as_its_weights_are(digits: Dataset) -> None:
    state, step, _ = make(digits, ema={"decay": 0.6, "batch_norm": "averaged"})
    assert state.teacher is not None
    for decay in (1 / 2, 0.6):
        before = state.teacher.running.clone()
        step.run(stop=False)
        expected = decay * before + (1 - decay) * state.student.running
        torch.testing.assert_close(state.teacher.running, expected)


def test_noise_can_differ_for_the_teacher(digits: Dataset) -> None:
    state, step, _ = make(digits, augmentation=CALM | {"noise": 0.0, "teacher_noise": 0.4})
    assert state.teacher is not None
    student, teacher = record_inputs(state.student), record_inputs(state.teacher)
    step.run(stop=False)
    difference = torch.cat(teacher) - torch.cat(student)
    assert float(difference.std()) == pytest.approx(0.4, rel=0.1)


class TestFp16:
    def test_a_step_that_overflows_moves_nothing_but_its_own_count_and_halves_the_scale(self, digits: Dataset) -> None:
        state, step, _ = make(digits, precision="fp16")
        state.counters.loss_scale = 2.0**40
        before = {name: tensor.clone() for name, tensor in state.tensors().items()}
        step.run(stop=False)
        assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
        assert (state.counters.step, state.counters.updates) == (1, 0)
        assert state.counters.loss_scale == 2.0**39
        assert step.last_outcome().is_finite

    def test_the_scale_leaves_the_gradients_as_they_are(self, digits: Dataset) -> None:
        moved = []
        for scale in (2.0**11, 2.0**13):  # exact, as long as nothing overflows or, as with 2**9, vanishes
            state, step, _ = make(digits, precision="fp16")
            state.counters.loss_scale = scale
            step.run(stop=False)
            assert state.counters.updates == 1
            moved.append(state.student.weights.clone())
        torch.testing.assert_close(moved[0], moved[1], rtol=1e-2, atol=1e-4)

    def test_the_scale_follows_the_rule_of_torchs_own(self) -> None:
        tracker, scale = torch.zeros(1, dtype=torch.int32), torch.tensor([2.0**16])
        ours, good_steps = 2.0**16, 0
        for step in range(5000):
            finite = step not in (3, 4, 2500)
            found = torch.tensor([0.0 if finite else 1.0])
            torch._amp_update_scale_(scale, tracker, found, 2.0, 0.5, GROW_AFTER_STEPS)
            ours, good_steps = next_loss_scale(ours, good_steps, finite=finite)
            assert (ours, good_steps) == (scale.item(), tracker.item())


def test_channels_last_is_a_matter_of_memory_and_not_of_values(digits: Dataset) -> None:
    config = TrainingConfig.model_validate({**TINY, "precision": "fp32"})
    plan = config.plan(digits.facts)
    plain, last = (build_state(config, plan, CPU, channels_last=flag) for flag in (False, True))
    conv = last.student.model.get_parameter("layer1.0.conv1.weight")
    assert conv.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(plain.student.weights, last.student.weights)
    for mine, theirs in zip(plain.student.model.parameters(), last.student.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    images = last.student.arranged(torch.randn(4, 3, 8, 8))
    torch.testing.assert_close(plain.student.model(images), last.student.model(images), rtol=1e-3, atol=1e-4)
    # What one has written the other reads.
    snapshot = Snapshot(last)
    last.student.weights.add_(0.5)
    snapshot.take()
    restore(plain, snapshot.files(), Counters())
    for mine, theirs in zip(plain.student.model.parameters(), last.student.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
