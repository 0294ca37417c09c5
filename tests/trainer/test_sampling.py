"""Who is labelled and which images a step sees: functions of the seed and the step."""

from collections import Counter

import pytest
import torch

from trainer.config import DATASETS, TrainingConfig
from trainer.data.dataset import Dataset, ResidentPixels
from trainer.data.digits import load_digits
from trainer.data.pools import Pools, split_pools
from trainer.errors import ConfigError
from trainer.sampling import Sampler

LABELLED_OF_SEED_0 = [
    36, 43, 52, 87, 94, 172, 243, 280, 305, 310, 314, 335, 338, 354, 392, 408, 413,
    437, 509, 532, 539, 544, 567, 651, 696, 733, 776, 781, 862, 909, 916, 926, 1017, 1077,
    1093, 1098, 1120, 1162, 1171, 1208, 1248, 1252, 1273, 1320, 1349, 1355, 1362, 1363, 1400, 1414,
]  # fmt: skip


CPU = torch.device("cpu")
FACTS = DATASETS["digits"]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits(CPU)


def make(digits: Dataset, **changes: object) -> tuple[TrainingConfig, Pools, Sampler]:
    config = TrainingConfig.model_validate(
        {"labels": 50, "steps": 100, "batch": 128, "labelled_batch": 32, "shards": 4, **changes}
    )
    pools = split_pools(digits.train_classes, config.plan(FACTS), config.seed)
    return config, pools, Sampler(config, pools)


def test_digits_are_split_for_good(digits: Dataset) -> None:
    assert isinstance(digits.train, ResidentPixels)
    assert digits.train.pixels.shape == (1437, 1, 8, 8)
    assert digits.test.fetch(torch.arange(360)).shape == (360, 1, 8, 8)
    assert digits.train.pixels.dtype == torch.uint8
    assert int(digits.train.pixels.max()) == 255
    together = torch.cat([digits.train_classes, digits.test_classes])
    assert Counter(together.tolist()) == {
        0: 178,
        1: 182,
        2: 177,
        3: 183,
        4: 181,
        5: 182,
        6: 181,
        7: 179,
        8: 174,
        9: 180,
    }
    assert digits.test_classes[:8].tolist() == load_digits(CPU).test_classes[:8].tolist()


def test_labels_are_balanced_and_fixed_by_the_seed(digits: Dataset) -> None:
    _, pools, _ = make(digits)
    assert Counter(digits.train_classes[pools.labelled].tolist()) == dict.fromkeys(range(10), 5)
    assert torch.equal(pools.labelled, make(digits)[1].labelled)
    assert not torch.equal(pools.labelled, make(digits, seed=1)[1].labelled)


def test_a_remainder_goes_to_some_classes(digits: Dataset) -> None:
    _, pools, _ = make(digits, labels=53)
    assert sorted(Counter(digits.train_classes[pools.labelled].tolist()).values()) == [5] * 7 + [6] * 3


def test_the_unlabelled_pool_is_the_rest_and_all_if_there_is_no_rest(digits: Dataset) -> None:
    _, pools, _ = make(digits)
    assert sorted([*pools.labelled.tolist(), *pools.unlabelled.tolist()]) == list(range(1437))
    few = torch.arange(20) % 10
    config = TrainingConfig.model_validate({"steps": 1, "labels": 20})
    everyone = split_pools(few, config.plan(FACTS), config.seed)
    assert len(everyone.labelled) == len(everyone.unlabelled) == 20


@pytest.mark.parametrize("labels", [1400, 1433, 1437, "99%", "100%"])
def test_what_small_classes_lack_the_others_give(digits: Dataset, labels: int | str) -> None:
    config, pools, _ = make(digits, labels=labels)
    given = Counter(digits.train_classes[pools.labelled].tolist())
    there = Counter(digits.train_classes.tolist())
    assert given.total() == len(set(pools.labelled.tolist())) == config.label_count(FACTS)
    most = max(given.values())
    assert all(given[label] in (there[label], most, most - 1) for label in range(10))
    assert torch.equal(pools.labelled, make(digits, labels=labels)[1].labelled)


def test_who_is_labelled_stays_as_it_was_measured(digits: Dataset) -> None:
    """The accuracies in the README are of these 50 images, and of no others."""
    labelled = make(digits, seed=0)[1].labelled.tolist()
    assert labelled == LABELLED_OF_SEED_0


def test_more_labels_than_there_are_images_are_refused() -> None:
    config = TrainingConfig.model_validate({"steps": 1, "labels": 50})
    with pytest.raises(ConfigError, match="labels: 50 are more than there are training images: 20"):
        split_pools(torch.arange(20) % 10, config.plan(FACTS), config.seed)


def test_every_unlabelled_image_is_seen_once_an_epoch(digits: Dataset) -> None:
    _, pools, sampler = make(digits)
    stream = torch.cat([sampler.unlabelled(step, shard) for step in range(29) for shard in range(4)])
    size = len(pools.unlabelled)
    first, second = stream[:size], stream[size : 2 * size]
    assert torch.equal(first.sort().values, pools.unlabelled)
    assert torch.equal(second.sort().values, pools.unlabelled)
    assert not torch.equal(first, second)


def test_the_labelled_images_cycle_meanwhile(digits: Dataset) -> None:
    _, pools, sampler = make(digits)
    stream = torch.cat([sampler.labelled(step, shard) for step in range(25) for shard in range(4)])
    cycles = stream.reshape(-1, 50)
    assert len(cycles) == 16
    assert all(torch.equal(cycle.sort().values, pools.labelled) for cycle in cycles)
    assert len({tuple(cycle.tolist()) for cycle in cycles}) == 16


def test_a_shard_larger_than_the_pool_goes_round_within_a_step(digits: Dataset) -> None:
    _, pools, sampler = make(digits, labels=10, labelled_batch=64, shards=2)
    assert Counter(sampler.labelled(0, 0).tolist()).keys() == set(pools.labelled.tolist())


def test_how_a_step_is_cut_into_shards_does_not_change_what_it_sees(digits: Dataset) -> None:
    steps = {}
    for shards in (1, 2, 8):
        _, _, sampler = make(digits, shards=shards)
        steps[shards] = torch.cat([sampler.unlabelled(17, shard) for shard in range(shards)])
    assert torch.equal(steps[1], steps[2])
    assert torch.equal(steps[1], steps[8])


def test_epochs_count_the_same_for_both_methods() -> None:
    epochs = {"labels": 50, "epochs": 10, "batch": 128, "labelled_batch": 32}
    configs = [TrainingConfig.model_validate({**epochs, "method": m}) for m in ("mean_teacher", "supervised")]
    both = [config.plan(FACTS).total_steps for config in configs]
    assert both == [145, 145]  # 10 * 1387 / 96, rounded up


def test_epochs_of_labelled_images_alone_are_passes_over_them() -> None:
    config = {"epochs": 10, "labels": "100%", "batch": 32, "labelled_batch": 32, "method": "supervised"}
    assert TrainingConfig.model_validate(config).plan(FACTS).total_steps == 450  # 10 * 1437 / 32, rounded up


def test_a_pass_is_shuffled_once_for_all_its_steps_and_shards(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffles, randperm = list[int](), torch.randperm

    def counted(size: int, *, generator: torch.Generator) -> torch.Tensor:
        shuffles.append(size)
        return randperm(size, generator=generator)

    monkeypatch.setattr(torch, "randperm", counted)
    _, _, sampler = make(digits)
    for step in range(29):  # two passes over the unlabelled, 19 over the labelled
        for shard in range(4):
            sampler.unlabelled(step, shard)
            sampler.labelled(step, shard)
    assert Counter(shuffles) == {1387: 3, 50: 19}


def test_steps_may_be_asked_for_in_any_order(digits: Dataset) -> None:
    forwards, backwards = make(digits)[2], make(digits)[2]
    steps = {step: forwards.unlabelled(step, 1) for step in range(100)}
    assert all(torch.equal(backwards.unlabelled(step, 1), steps[step]) for step in reversed(range(100)))
