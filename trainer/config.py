"""What to train: the `training` section of job.yaml, and `config.json` of a run directory.

Pure and light: pydantic only, no torch, because the orchestrator imports it to check a job before anything starts.
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError


class DatasetFacts(NamedTuple):
    """What must be known of a data set before it is loaded."""

    train_images: int
    test_images: int
    classes: int
    image_px: int


DATASETS: dict[str, DatasetFacts] = {
    # scikit-learn's 1,797 digits; the first 1,437 (in a fixed shuffle) train, the rest test.
    "digits": DatasetFacts(train_images=1437, test_images=360, classes=10, image_px=8),
}

LARGEST_SMALL_IMAGE_PX = 64
"""Up to this size the network's first layers keep an image at full size."""

# What no run needs more of: beyond it, numbers overflow or a machine runs out of memory.
_MAX_SEED = 2**63 - 1
_MAX_STEPS = 10**9
_MAX_BATCH = 2**20
_MAX_SHARDS = 1024
_MAX_THREADS = 1024


class Strict(BaseModel):
    """A section of job.yaml: unknown fields are refused, nothing is converted silently, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Misfit(NamedTuple):
    """Values that are fine alone and not together.

    `fields` names every field that takes part, by its path from the model that complains; the first is the one to
    blame, where an editor should put its mark.
    """

    fields: tuple[tuple[str | int, ...], ...]
    message: str


def refuse(misfits: Sequence[Misfit]) -> None:
    """Raise all misfits of a model as one pydantic error, if any; `orchestrator.spec.load` takes them apart again."""
    if misfits:
        text = "; ".join(misfit.message for misfit in misfits)
        raise PydanticCustomError("misfits", "{text}", {"text": text, "misfits": list(misfits)})


def explain(error: ValidationError) -> list[str]:
    """Each problem of a refused configuration in a line of its own, for those who have no file and line to point at."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        where = tuple(problem["loc"])
        misfits = problem["ctx"]["misfits"] if problem["type"] == "misfits" else [Misfit(((),), problem["msg"])]
        for misfit in misfits:
            path = ".".join(map(str, where + misfit.fields[0]))
            lines.append(f"{path}: {misfit.message}" if path else misfit.message)
    return lines


class Model(Strict):
    """The network: a torchvision ResNet-18."""

    name: Literal["resnet18"] = Field("resnet18", description="Architecture, from torchvision.")
    stem: Literal["auto", "cifar", "imagenet"] = Field(
        "auto",
        description="First layers: 3x3 without pooling (cifar), 7x7 with pooling (imagenet); auto: cifar up to 64 px.",
    )

    def has_cifar_stem(self, image_px: int) -> bool:
        """Whether the first layers are those for small images, for images of this size."""
        return self.stem == "cifar" or (self.stem == "auto" and image_px <= LARGEST_SMALL_IMAGE_PX)


class Optimizer(Strict):
    """How gradients become updates."""

    name: Literal["sgd"] = Field("sgd", description="SGD with momentum.")
    lr: Annotated[float, Field(gt=0)] = Field(0.05, description="Peak learning rate.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum.")
    nesterov: bool = Field(True, description="Nesterov's form of the momentum.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(2e-4, description="L2 penalty.")


class Schedule(Strict):
    """The learning rate over the run."""

    name: Literal["cosine", "constant"] = Field("cosine", description="Shape after the warm-up.")
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.05, description="Share of all steps that warms up linearly.")


class Consistency(Strict):
    """The pull of the student towards the teacher."""

    loss: Literal["mse"] = Field("mse", description="Squared distance of softmax outputs, mean over classes.")
    # The defaults of this section, of ema and of augmentation are those that examples/digits.yaml was tuned to: the
    # paper's weight of 100 needs a far longer run, or the teacher's first errors are learnt.
    weight: Annotated[float, Field(ge=0)] = Field(30.0, description="Full weight, reached at the end of the ramp-up.")
    ramp_up: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Share of all steps over which the weight rises as exp(-5 (1 - t)^2)."
    )


class Ema(Strict):
    """The teacher: an exponential moving average of the student."""

    decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.97, description="Decay, reached by min(1 - 1/(step + 1), decay)."
    )


class Augmentation(Strict):
    """What student and teacher each see of an image, drawn apart per sample."""

    flip: bool = Field(False, description="Mirror half of the images; not for digits.")
    translate_px: Annotated[int, Field(ge=0, le=1024)] = Field(1, description="Shift by up to so many pixels each way.")
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = Field(15.0, description="Turn by up to so much each way.")
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Grow or shrink by up to this share.")
    shear: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Slant by up to this share of the height.")
    noise: Annotated[float, Field(ge=0)] = Field(0.15, description="Standard deviation of Gaussian input noise.")


_SHARE_PATTERN = r"^(100(\.0+)?|[1-9]?\d(\.\d+)?)%$"


def _labels(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    share = isinstance(value, str) and re.fullmatch(_SHARE_PATTERN, value) is not None and float(value[:-1]) > 0
    if number or share:
        return value
    raise PydanticCustomError("labels", "must be a number of images (50) or a share of them (10%)")


Labels = Annotated[
    int | str,
    BeforeValidator(_labels),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": _SHARE_PATTERN}]}),
]


class TrainingConfig(Strict):
    """A whole training run: with the same config, the same bits at any number of workers."""

    dataset: Literal["digits"] = Field("digits", description="Images to train on.")
    labels: Labels = Field(
        50,
        description="How many training images keep their label (50) or their share (10%), "
        "balanced over classes as far as each has images.",
    )
    method: Literal["mean_teacher", "supervised"] = Field(
        "mean_teacher", description="supervised: the labelled images alone, on the same code."
    )
    model: Model = Field(default_factory=Model)
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Passes over the unlabelled images; or give steps.", examples=[40]
    )
    steps: Annotated[int, Field(ge=1, le=_MAX_STEPS)] | None = Field(
        None, description="Optimiser steps; or give epochs.", examples=[1000]
    )
    batch: Annotated[int, Field(ge=1, le=_MAX_BATCH)] = Field(128, description="Images per step over all workers.")
    labelled_batch: Annotated[int, Field(ge=1, le=_MAX_BATCH)] = Field(
        32, description="How many images of a batch are labelled."
    )
    shards: Annotated[int, Field(ge=1, le=_MAX_SHARDS)] = Field(
        8,
        description="Logical parts of a batch, a power of two: the largest number of workers; "
        "each is a microbatch and a BatchNorm unit.",
    )
    threads: Annotated[int, Field(ge=1, le=_MAX_THREADS)] = Field(
        1, description="CPU threads per worker; part of the experiment, since they change sums."
    )
    optimizer: Optimizer = Field(default_factory=Optimizer)
    schedule: Schedule = Field(default_factory=Schedule)
    consistency: Consistency = Field(default_factory=Consistency)
    ema: Ema = Field(default_factory=Ema)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "auto", description="auto: bf16 where the device has it, else fp32."
    )
    seed: Annotated[int, Field(ge=0, le=_MAX_SEED)] = Field(0, description="Fixes every draw of the run.")
    evaluate_every: Annotated[int, Field(ge=1, le=_MAX_STEPS)] = Field(
        100, description="Steps between two looks at the test images."
    )

    @property
    def label_count(self) -> int:
        """How many images are labelled, whether given as a number or a share."""
        if isinstance(self.labels, int):
            return self.labels
        return max(1, round(DATASETS[self.dataset].train_images * float(self.labels.rstrip("%")) / 100))

    @property
    def unlabelled_count(self) -> int:
        """Size of the pool that serves without labels: the unlabelled images, or all when every one has its label."""
        train_images = DATASETS[self.dataset].train_images
        return train_images - self.label_count or train_images

    @property
    def images_per_step(self) -> int:
        """Images that one step trains on: the labelled ones alone when supervised."""
        return self.labelled_batch if self.method == "supervised" else self.batch

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the run; epochs count the same for both methods, so that the two can be compared."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        unlabelled_batch = self.batch - self.labelled_batch
        if unlabelled_batch:
            return math.ceil(self.epochs * self.unlabelled_count / unlabelled_batch)
        return math.ceil(self.epochs * self.label_count / self.labelled_batch)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        refuse([*self._length_misfits(), *self._batch_misfits(), *self._label_misfits()])
        return self

    def _length_misfits(self) -> list[Misfit]:
        if self.epochs is None and self.steps is None:
            return [Misfit((("epochs",), ("steps",)), "how long to train? give epochs or steps")]
        if self.epochs is not None and self.steps is not None:
            return [Misfit((("steps",), ("epochs",)), "epochs is given too; keep one of the two")]
        return []

    def _batch_misfits(self) -> list[Misfit]:
        if self.shards & (self.shards - 1):
            low = 1 << (self.shards.bit_length() - 1)
            return [Misfit((("shards",),), f"must be a power of two: {low} or {2 * low}, not {self.shards}")]
        misfits = []
        for name in ("batch", "labelled_batch"):
            size = getattr(self, name)
            if size % self.shards:
                near = " or ".join(
                    str(n) for n in (size // self.shards * self.shards, -(-size // self.shards) * self.shards) if n
                )
                message = f"{size} images cannot be split over {self.shards} shards evenly; {near} can"
                misfits.append(Misfit(((name,), ("shards",)), message))
        if self.images_per_step < 2 * self.shards:
            name = "labelled_batch" if self.method == "supervised" else "batch"
            message = (
                f"{self.images_per_step} images leave one for a shard; BatchNorm needs 2, so at least {2 * self.shards}"
            )
            misfits.append(Misfit(((name,), ("shards",)), message))
        if self.labelled_batch > self.batch:
            message = f"{self.labelled_batch} labelled images do not fit into a batch of {self.batch}"
            misfits.append(Misfit((("labelled_batch",), ("batch",)), message))
        elif self.labelled_batch == self.batch and self.method == "mean_teacher":
            message = "leaves no room in the batch for unlabelled images, which mean_teacher needs"
            misfits.append(Misfit((("labelled_batch",), ("batch",), ("method",)), message))
        return misfits

    def _label_misfits(self) -> list[Misfit]:
        facts = DATASETS[self.dataset]
        fields = (("labels",), ("dataset",))
        if self.label_count > facts.train_images:
            return [
                Misfit(
                    fields,
                    f"{self.label_count} labels are more than {self.dataset} has training images: {facts.train_images}",
                )
            ]
        if self.label_count < facts.classes:
            return [
                Misfit(
                    fields,
                    f"{self.label_count} labels are too few: {self.dataset} has {facts.classes} classes, one each",
                )
            ]
        return []
