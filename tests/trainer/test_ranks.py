"""Nothing may depend on the number of ranks, and these tests would notice: each part is broken on purpose."""

from typing import Any

import pytest
import torch
from torch import Tensor

import trainer.keys
from tests.trainer.threads import Sabotage, train
from trainer.network import FlatNetwork, StateDict
from trainer.sampling import Sampler
from trainer.step import TrainStep

SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "supervised": {"method": "supervised"},
    "two heads": {"consistency": {"second_head": True, "loss": "kl", "on_labelled": False}},
    "averaged statistics": {"ema": {"batch_norm": "averaged", "decay_after_ramp_up": 0.99}},
    "adamw": {"optimizer": {"name": "adamw", "clip_norm": 0.5, "decay_all": False}},
    "lamb": {"optimizer": {"name": "lamb"}},
    "every augmentation": {
        "augmentation": {
            "flip": True,
            "rotate_degrees": 10.0,
            "crop_area": 0.5,
            "brightness": 0.3,
            "contrast": 0.3,
            "cutout": 0.3,
            "policy": "strong",
            "teacher_noise": 0.3,
        }
    },
}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
def test_one_two_and_four_ranks_come_to_the_same_bits(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    digests = {train(monkeypatch, ranks, steps=2, **changes).digest for ranks in (1, 2, 4)}
    assert len(digests) == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_half_precision_too(monkeypatch: pytest.MonkeyPatch, precision: Any) -> None:
    assert len({train(monkeypatch, ranks, 2, precision).digest for ranks in (1, 2, 4)}) == 1


def _sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of a shard counted within its rank: every rank sees the images of the first."""
    real, count = TrainStep.__init__, "_passes"

    def init(self: TrainStep, *arguments: Any) -> None:
        real(self, *arguments)
        size = len(getattr(self, count))
        take = self._batches.take
        monkeypatch.setattr(self._batches, "take", lambda step, shard: take(step, shard % size))

    monkeypatch.setattr(TrainStep, "__init__", init)


def _augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views drawn from one generator a rank, as they come."""
    generators: dict[int, torch.Generator] = {}

    def drawn(self: TrainStep, purpose: int, _shards: Any) -> torch.Generator:
        return generators.setdefault(id(self) + purpose, trainer.keys.generator(0, trainer.keys.Purpose(purpose)))

    monkeypatch.setattr(TrainStep, "_draws", drawn)


def _batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running statistics of this rank's own last shard."""
    real = TrainStep._apply

    def apply(self: TrainStep, rates: Any) -> None:
        self._total.student_statistics.copy_(self._state.student.batch_statistics * self._pass_count)
        real(self, rates)

    monkeypatch.setattr(TrainStep, "_apply", apply)


def _sum_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a rank added one after the other."""

    def add_in_turn(shards: Any, contribute: Any, buffer: Tensor, _spares: Any) -> None:
        total = torch.zeros_like(buffer)
        for shard in shards:
            buffer.zero_()
            contribute(shard)
            total.add_(buffer)
        buffer.copy_(total)

    monkeypatch.setattr("trainer.step.sum_shards", add_in_turn)


def _batches_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward passes counted, as torch's BatchNorm does by itself."""
    counts: dict[int, int] = {}
    forward, state_dict = TrainStep._contribute, FlatNetwork.state_dict

    def contribute(self: TrainStep, *arguments: Any) -> None:
        counts[id(self._state.student)] = counts.get(id(self._state.student), 0) + 1
        forward(self, *arguments)

    def counted(self: FlatNetwork, weights: Tensor, running: Tensor, updates: int) -> StateDict:
        return state_dict(self, weights, running, counts.get(id(self), updates))

    monkeypatch.setattr(TrainStep, "_contribute", contribute)
    monkeypatch.setattr(FlatNetwork, "state_dict", counted)


@pytest.mark.parametrize("sabotage", [_sampler, _augmentation, _batch_norm, _sum_order, _batches_tracked])
def test_what_comes_to_depend_on_the_number_of_ranks_is_noticed(
    monkeypatch: pytest.MonkeyPatch, sabotage: Sabotage
) -> None:
    sabotage(monkeypatch)
    try:
        digests = {train(monkeypatch, ranks, steps=2).digest for ranks in (1, 2, 4)}
    except AssertionError:
        return  # not even the ranks of one run agree
    assert len(digests) > 1


def test_the_fast_mode_gives_up_the_bits_and_not_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = Sampler.unlabelled

    def unlabelled(self: Sampler, step: int, shard: int) -> Tensor:
        indices = real(self, step, shard)
        seen.extend(indices.tolist())
        return indices

    monkeypatch.setattr(Sampler, "unlabelled", unlabelled)
    exact, samples = train(monkeypatch, 1, steps=1), sorted(seen)
    seen.clear()
    fast = train(monkeypatch, 2, steps=1, exact=False)
    assert sorted(seen) == samples
    assert fast.digest != exact.digest
    (one,), (other,) = exact.outcomes, fast.outcomes
    assert one is not None and other is not None
    assert other.class_loss == pytest.approx(one.class_loss, rel=0.5)
