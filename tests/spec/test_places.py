"""Paths and prefixes: a relative path means what it means beside the job file."""

from pathlib import Path

import pytest

from orchestrator.spec.places import is_url, split_s3, with_absolute_paths
from trainer.config import Folders, Model, TrainingConfig


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket/a/b", ("bucket", "a/b")),
        ("s3://bucket/a/", ("bucket", "a")),
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/a#1", ("bucket", "a#1")),
        ("s3://bucket/a[1]", ("bucket", "a[1]")),
    ],
)
def test_bucket_and_prefix(url: str, parts: tuple[str, str]) -> None:
    assert split_s3(url) == parts


def test_a_path_with_colons_is_a_path() -> None:
    assert not is_url("a:b/c")
    assert is_url("s3://a")
    assert is_url("s3:/a")


def test_paths_are_taken_from_the_directory_of_the_job() -> None:
    folders = Folders(labelled="train", unlabelled="s3://bucket/more", test="/data/../test")
    training = TrainingConfig(
        dataset="folder", steps=1, folders=folders, data_dir="~/sets", model=Model(weights="w.pt")
    )

    moved = with_absolute_paths(training, Path("/jobs/one"))

    assert moved.folders == Folders(labelled="/jobs/one/train", unlabelled="s3://bucket/more", test="/test")
    assert moved.data_dir == str(Path.home() / "sets")
    assert moved.model.weights == "/jobs/one/w.pt"


def test_what_is_no_path_stays() -> None:
    training = TrainingConfig(steps=1, model=Model(weights="imagenet"))

    assert with_absolute_paths(training, Path("/jobs")) == training
