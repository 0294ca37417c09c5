"""Jobs for tests: valid, small, with the fields that a test is about."""

from typing import Any

from orchestrator.spec.models import Checkpoint, JobSpec, Limits, Resources, Rung, Scaling
from trainer.config import TrainingConfig

TRAINING = TrainingConfig(labels=50, steps=100, batch=32, labelled_batch=16, shards=8)


def job_spec(
    name: str = "digits",
    *,
    sizes: tuple[int, ...] = (1, 2),
    instances: int = 1,
    scaling: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    checkpoint: dict[str, Any] | None = None,
) -> JobSpec:
    """A job on the local fleet with a rung for each of `sizes`, each on so many instances."""
    return JobSpec(
        name=name,
        training=TRAINING,
        resources=Resources(ladder=tuple(Rung(count=instances, workers=size) for size in sizes)),
        scaling=Scaling(**({"window": 8.0, "warm_up": 3.0, "cooldown": 30.0} | (scaling or {}))),
        limits=Limits(**(limits or {})),
        checkpoint=Checkpoint(**({"every": 10.0} | (checkpoint or {}))),
    )


def trained(spec: JobSpec) -> TrainingConfig:
    """What a job trains with elastic's own trainer, as most do."""
    assert spec.training is not None, f"{spec.name} runs a program of its own"
    return spec.training
