"""The examples: they load, and keep what their comments and the README promise."""

from pathlib import Path

import pytest

from orchestrator.spec.load import load_job
from orchestrator.spec.models import JobSpec
from tests.support.specs import trained
from trainer.config import DATASETS

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> JobSpec:
    return load_job(EXAMPLES / name)


@pytest.mark.parametrize("file", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_an_example_is_a_job_named_like_its_file_or_its_directory(file: Path) -> None:
    assert load_job(file).name == (file.stem if file.parent == EXAMPLES else file.parent.name)


def test_ones_own_program_lies_beside_its_job() -> None:
    job = example("bring-your-own/job.yaml")

    assert job.training is None
    assert job.command == ("python", "train.py")
    assert (EXAMPLES / "bring-your-own" / "train.py").is_file()
    assert [rung.world_size for rung in job.resources.ladder] == [1, 2]


def test_the_demo_grows_from_one_worker_to_two() -> None:
    job = example("digits.yaml")

    assert [rung.world_size for rung in job.resources.ladder] == [1, 2]
    assert job.allowed_rungs == [0, 1]
    assert (job.scaling.up_above, job.scaling.down_below) == (80, 30)
    # It decides within 20 s of a start, and then has no time left to change its mind in a run of 90 s.
    assert job.scaling.warm_up + job.scaling.window < 20
    assert job.scaling.cooldown >= 30


def test_the_baseline_differs_in_nothing_but_the_method() -> None:
    ours, baseline = trained(example("digits.yaml")), trained(example("digits-supervised.yaml"))

    assert (ours.method, baseline.method) == ("mean_teacher", "supervised")
    same = {"method", "consistency", "ema"}
    assert baseline.model_dump(exclude=same) == ours.model_dump(exclude=same)


def test_cifar10_has_the_articles_split() -> None:
    training = trained(example("cifar10.yaml"))
    plan = training.plan(DATASETS["cifar10"])

    assert (plan.label_count, plan.unlabelled_count) == (5_000, 45_000)
    assert training.model.has_cifar_stem(plan.image_px)
    assert trained(load_job(EXAMPLES / "cifar10.yaml", ["training.labels=4000"])).labels == 4000
    load_job(EXAMPLES / "cifar10.yaml", ["training.method=supervised"])


def test_own_images_may_lie_in_a_bucket() -> None:
    job = load_job(EXAMPLES / "folder.yaml", ["training.folders.labelled=s3://my-bucket/cats-and-dogs"])

    folders = trained(job).folders
    assert folders is not None
    assert folders.labelled == "s3://my-bucket/cats-and-dogs"


def test_a_large_batch_is_split_alike_on_every_rung() -> None:
    job = example("large-batch.yaml")

    assert {trained(job).shards % rung.world_size for rung in job.resources.ladder} == {0}
    assert trained(job).optimizer.name == "lamb"
