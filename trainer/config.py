"""What to train: the `training` section of job.yaml, and `config.json` of a run directory.

Pure and light: pydantic only, no torch, because the orchestrator imports it to check a job before anything starts.
"""

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator


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


class Strict(BaseModel):
    """A section of job.yaml: unknown fields are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(Strict):
    """The network: a torchvision ResNet-18."""

    name: Literal["resnet18"] = Field("resnet18", description="Architecture, from torchvision.")
    stem: Literal["auto", "cifar", "imagenet"] = Field(
        "auto", description="First layers: 3x3 without pooling (cifar), 7x7 with pooling (imagenet); auto: cifar up to 64 px."
    )


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
    weight: Annotated[float, Field(ge=0)] = Field(100.0, description="Full weight, reached at the end of the ramp-up.")
    ramp_up: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="Share of all steps over which the weight rises as exp(-5 (1 - t)^2)."
    )


class Ema(Strict):
    """The teacher: an exponential moving average of the student."""

    decay: Annotated[float, Field(ge=0, lt=1)] = Field(0.99, description="Decay, reached by min(1 - 1/(step + 1), decay).")


class Augmentation(Strict):
    """What student and teacher each see of an image, drawn apart per sample."""

    flip: bool = Field(False, description="Mirror half of the images; not for digits.")
    translate_px: Annotated[int, Field(ge=0)] = Field(1, description="Shift by up to so many pixels each way.")
    noise: Annotated[float, Field(ge=0)] = Field(0.15, description="Standard deviation of Gaussian input noise.")


Labels = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^(100|[1-9]?\d)(\.\d+)?%$")]


class TrainingConfig(Strict):
    """A whole training run: with the same config, the same bits at any number of workers."""

    dataset: Literal["digits"] = Field("digits", description="Images to train on.")
    labels: Labels = Field(50, description="How many training images keep their label (50) or their share (10%), balanced over classes.")
    method: Literal["mean_teacher", "supervised"] = Field("mean_teacher", description="supervised: the labelled images alone, on the same code.")
    model: Model = Field(default_factory=Model)
    epochs: Annotated[int, Field(ge=1)] | None = Field(None, description="Passes over the unlabelled images; or give steps.")
    steps: Annotated[int, Field(ge=1)] | None = Field(None, description="Optimiser steps; or give epochs.")
    batch: Annotated[int, Field(ge=1)] = Field(128, description="Images per step over all workers.")
    labelled_batch: Annotated[int, Field(ge=1)] = Field(32, description="How many images of a batch are labelled.")
    shards: Annotated[int, Field(ge=1)] = Field(
        8, description="Logical parts of a batch, a power of two: the largest number of workers; each is a microbatch and a BatchNorm unit."
    )
    threads: Annotated[int, Field(ge=1)] = Field(1, description="CPU threads per worker; part of the experiment, since they change sums.")
    optimizer: Optimizer = Field(default_factory=Optimizer)
    schedule: Schedule = Field(default_factory=Schedule)
    consistency: Consistency = Field(default_factory=Consistency)
    ema: Ema = Field(default_factory=Ema)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    precision: Literal["fp32", "bf16", "auto"] = Field("auto", description="auto: bf16 where the device has it, else fp32.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Fixes every draw of the run.")
    evaluate_every: Annotated[int, Field(ge=1)] = Field(100, description="Steps between two looks at the test images.")

    @property
    def label_count(self) -> int:
        """How many images are labelled, whether given as a number or a share."""
        if isinstance(self.labels, int):
            return self.labels
        return max(1, round(DATASETS[self.dataset].train_images * float(self.labels.rstrip("%")) / 100))

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingConfig":
        facts = DATASETS[self.dataset]
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        if self.shards & (self.shards - 1):
            raise ValueError(f"shards must be a power of two, not {self.shards}")
        for name in ("batch", "labelled_batch"):
            if getattr(self, name) % self.shards:
                raise ValueError(f"{name} ({getattr(self, name)}) must be divisible by shards ({self.shards})")
        if self.labelled_batch > self.batch:
            raise ValueError(f"labelled_batch ({self.labelled_batch}) is more than batch ({self.batch})")
        if self.method == "mean_teacher" and self.labelled_batch == self.batch:
            raise ValueError("labelled_batch must leave room in batch for unlabelled images")
        if self.label_count > facts.train_images:
            raise ValueError(f"labels ({self.label_count}) is more than the {facts.train_images} training images of {self.dataset}")
        if self.label_count < facts.classes:
            raise ValueError(f"labels ({self.label_count}) must be at least one for each of the {facts.classes} classes")
        return self
