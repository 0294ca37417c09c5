"""The few fields of a job.yaml that a list of jobs shows, in the shape of `orchestrator.spec.models`.

Models take time to be made, in every process anew, and those of a whole job.yaml as much as all else that `elastic ps`
does. What is read here was written from a whole `JobSpec`: nothing is checked but what is used.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class RungOutline(_Part):
    """One size a job can have."""

    instance: str
    count: int
    workers: int

    @property
    def world_size(self) -> int:
        """Workers on all instances together."""
        return self.count * self.workers


class ResourcesOutline(_Part):
    """The sizes."""

    ladder: tuple[RungOutline, ...]


class ScalingOutline(_Part):
    """When it changes its size."""

    up_above: float
    down_below: float


class CheckpointOutline(_Part):
    """How many stay in the bucket."""

    keep: int


class LimitsOutline(_Part):
    """What ends it."""

    max_cost: float | None


class TrainingOutline(_Part):
    """How much a step is."""

    method: Literal["supervised", "mean_teacher"]
    batch: int
    labelled_batch: int

    @property
    def images_per_step(self) -> int:
        """As `trainer.config.TrainingConfig` has it."""
        return self.labelled_batch if self.method == "supervised" else self.batch


class SpecOutline(_Part):
    """One job."""

    training: TrainingOutline | None
    resources: ResourcesOutline
    scaling: ScalingOutline
    checkpoint: CheckpointOutline
    limits: LimitsOutline
    labels: dict[str, str]
