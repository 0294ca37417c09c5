"""A job as values: defaults, units in Python and in JSON, and what has to fit together."""

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.spec.models import JobSpec, Resources, Rung, Scaling
from trainer.config import DATASETS, TrainingConfig, Written, explain


def _job(*rungs: Rung, scaling: Scaling | None = None) -> JobSpec:
    return JobSpec(
        name="job",
        training=TrainingConfig(steps=10, batch=32, labelled_batch=16, shards=8),
        resources=Resources(ladder=rungs or (Rung(),)),
        scaling=scaling or Scaling(),
    )


def test_a_job_survives_being_recorded() -> None:
    job = _job(Rung(workers=1), Rung(count=2, workers=2), scaling=Scaling(window=0.25, max=4))

    assert JobSpec.model_validate_json(job.model_dump_json()) == job


def test_a_record_shows_units() -> None:
    record = _job().model_dump(mode="json")

    assert record["scaling"]["window"] == "1m"
    assert record["checkpoint"]["keep_free"] == "256MiB"


def test_python_code_gives_seconds_and_bytes() -> None:
    assert Scaling(window=8.0).window == 8.0
    assert Scaling.model_validate({"window": "8s"}).window == 8.0


@pytest.mark.parametrize("window", [-1.0, float("nan"), float("inf"), True])
def test_python_code_gives_no_nonsense(window: float) -> None:
    with pytest.raises(ValidationError):
        Scaling(window=window)


def test_a_bare_number_in_a_file_is_refused() -> None:
    with pytest.raises(ValidationError, match="the unit is missing: write 60s"):
        Scaling.model_validate_json('{"window": 60}')


def test_a_job_is_never_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(_job(), "name", "other")  # noqa: B010 -- as code would that no type checker sees


def test_a_rung_has_the_workers_of_all_its_instances() -> None:
    assert Rung(count=3, workers=4).world_size == 12


@pytest.mark.parametrize(
    ("scaling", "allowed"),
    [
        (Scaling(), [0, 1, 2]),
        (Scaling(min=2), [1, 2]),
        (Scaling(max=2), [0, 1]),
        (Scaling(min=2, max=3), [1]),
        (Scaling(max=100), [0, 1, 2]),
    ],
)
def test_scaling_bounds_leave_out_rungs(scaling: Scaling, allowed: list[int]) -> None:
    assert _job(Rung(workers=1), Rung(workers=2), Rung(count=2, workers=2), scaling=scaling).allowed_rungs == allowed


def _explained(content: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as refused:
        TrainingConfig.model_validate(content)
    return explain(refused.value, Written(content, TrainingConfig, "json"))


def test_the_trainer_explains_a_bad_configuration_without_a_file() -> None:
    lines = _explained({"steps": 3, "epochs": 3, "batch": 60, "labels": 5000})
    assert [line.partition(":")[0] for line in lines] == ["steps", "batch", "labels"]
    assert lines[0] == "steps: epochs is given too; keep one of the two"


def test_the_trainer_explains_a_wrong_type_without_a_file() -> None:
    assert _explained({"steps": 3, "optimizer": {"lr": "fast"}}) == ["optimizer.lr: must be a number"]


@pytest.mark.parametrize(("labels", "count"), [(50, 50), ("10%", 144), ("1.5%", 22), ("100%", 1437)])
def test_labels_are_a_number_or_a_share(labels: int | str, count: int) -> None:
    assert TrainingConfig(steps=1, labels=labels).label_count(DATASETS["digits"]) == count


@pytest.mark.parametrize("labels", ["0%", "101%", "ten", "10", "10%\n", 0, -1, 5.5, True])
def test_labels_are_nothing_else(labels: int | str) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig(steps=1, labels=labels)
