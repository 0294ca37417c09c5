"""job.yaml as values: what a person may write, with units, bounds and defaults.

Pure: pydantic and the trainer's configuration model only.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orchestrator.spec.units import Duration, Size
from trainer.config import Strict, TrainingConfig

JOB_NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"


class Rung(Strict):
    """One size a job can have: so many instances of a type, so many workers on each."""

    instance: str = Field("local", description="Instance type; 'local' is a process on this machine.")
    count: Annotated[int, Field(ge=1)] = Field(1, description="How many instances.")
    workers: Annotated[int, Field(ge=1)] = Field(1, description="Workers on each instance: one a GPU, or one for each 'threads' CPU cores.")

    @property
    def world_size(self) -> int:
        return self.count * self.workers


class Resources(Strict):
    """Where the job runs and the sizes it may take."""

    fleet: Literal["local"] = Field("local", description="Where instances come from.")
    ladder: Annotated[tuple[Rung, ...], Field(min_length=1)] = Field((Rung(),), description="Sizes, smallest first.")
    image: str | None = Field(None, description="Container image for the workers; none: processes.")
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables of the workers; no secrets.")


class Scaling(Strict):
    """When the job climbs or descends its ladder."""

    up_above: Annotated[float, Field(ge=0, le=100)] = Field(80.0, description="Mean GPU utilisation in percent above which it grows.")
    down_below: Annotated[float, Field(ge=0, le=100)] = Field(30.0, description="Mean GPU utilisation in percent below which it shrinks.")
    window: Duration = Field(60.0, description="The mean is over this long, all of it on one side.")
    warm_up: Duration = Field(10.0, description="Samples this soon after a start do not count.")
    cooldown: Duration = Field(120.0, description="Least time between two resizes.")
    min: Annotated[int, Field(ge=1)] | None = Field(None, description="Fewest workers; none: the smallest rung.")
    max: Annotated[int, Field(ge=1)] | None = Field(None, description="Most workers; none: the largest rung.")


class Checkpoint(Strict):
    """How much work an interruption can cost."""

    every: Duration = Field(60.0, description="Time between two checkpoints.")
    keep: Annotated[int, Field(ge=2)] = Field(3, description="How many to keep; at least 2, so that an altered one has one before it.")
    keep_free: Size = Field(256 * 1024**2, description="Skip a checkpoint that would leave less disk space than this.")


class Limits(Strict):
    """When to stop."""

    max_cost: Annotated[float, Field(gt=0)] | None = Field(None, description="US dollars.")
    deadline: Duration | None = Field(None, description="Longest time from submit to end.")
    max_failures: Annotated[int, Field(ge=0)] = Field(3, description="Failed generations in a row without progress before the job fails.")


class JobSpec(Strict):
    """A job: one training run and how it may be run."""

    name: Annotated[str, Field(pattern=JOB_NAME_PATTERN)] = Field(description="Unique in the store: lower case letters, digits, hyphens.")
    training: TrainingConfig
    resources: Resources = Field(default_factory=Resources)
    scaling: Scaling = Field(default_factory=Scaling)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    limits: Limits = Field(default_factory=Limits)
    labels: dict[str, str] = Field(default_factory=dict, description="Free key-value pairs of the person's own.")

    @property
    def allowed_rungs(self) -> list[int]:
        """Indices of the ladder's rungs within scaling.min and scaling.max."""
        low = self.scaling.min or 1
        high = self.scaling.max or max(rung.world_size for rung in self.resources.ladder)
        return [i for i, rung in enumerate(self.resources.ladder) if low <= rung.world_size <= high]

    @model_validator(mode="after")
    def _fits_together(self) -> "JobSpec":
        raise NotImplementedError  # the spec helper writes: see INTERFACES
