"""A whole training run."""

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from trainer.config.base import Misfit, Strict, refuse
from trainer.config.facts import DATASETS, DatasetFacts
from trainer.config.plan import Plan
from trainer.config.sections import Augmentation, Consistency, Ema, Folders, Loading, Model, Optimizer, Schedule

# What no run needs more of: beyond it, numbers overflow or a machine runs out of memory.
_MAX_SEED = 2**63 - 1
_MAX_STEPS = 10**9
_MAX_BATCH = 2**20
_MAX_SHARDS = 1024
_MAX_THREADS = 1024

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

    dataset: Literal["digits", "cifar10", "cifar100", "svhn", "stl10", "folder"] = Field(
        "digits", description="Images to train on; folder: your own, see folders."
    )
    data_dir: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Where data sets are, or are downloaded to; by default a cache directory of the user.",
        examples=["/data"],
    )
    folders: Folders | None = Field(None, description="Your own images, for dataset: folder.")
    labels: Labels = Field(
        "10%",
        description="How many training images keep their label (50) or their share (10%), balanced over classes "
        "as far as each has images; the others serve without. 100% to use all.",
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
    loading: Loading = Field(default_factory=Loading)
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "auto", description="auto: bf16 where the device has it, else fp16 on a GPU and fp32 on a CPU."
    )
    channels_last: bool | Literal["auto"] = Field(
        "auto", description="Keep images and weights with channels innermost; auto: where that is faster."
    )
    compile: bool = Field(
        False, description="torch.compile: minutes at each start for a faster step; goes on without where it cannot be."
    )
    exact: bool = Field(
        True,
        description="The same bits at any number of workers. false: the fastest kernels, and a worker's shards "
        "in one pass; a resize then changes the result a little.",
    )
    on_divergence: Literal["stop", "rollback"] = Field(
        "stop",
        description="When the loss is no number: stop, or go back to the last good checkpoint with half the "
        "learning rate, five times at most.",
    )
    seed: Annotated[int, Field(ge=0, le=_MAX_SEED)] = Field(0, description="Fixes every draw of the run.")
    evaluate_every: Annotated[int, Field(ge=1, le=_MAX_STEPS)] = Field(
        100, description="Steps between two looks at the test images."
    )

    @property
    def facts(self) -> DatasetFacts | None:
        """What is known of the data set beforehand: nothing of the user's own folders."""
        return DATASETS.get(self.dataset)

    @property
    def images_per_step(self) -> int:
        """Images that one step trains on: the labelled ones alone when supervised."""
        return self.labelled_batch if self.method == "supervised" else self.batch

    def label_count(self, facts: DatasetFacts) -> int:
        """How many images are labelled, whether given as a number or a share."""
        if isinstance(self.labels, int):
            return self.labels
        return max(1, round(facts.train_images * float(self.labels.rstrip("%")) / 100))

    def plan(self, facts: DatasetFacts) -> Plan:
        """What the run comes to on a data set of this size."""
        labelled = self.label_count(facts)
        unlabelled = facts.train_images - labelled + facts.extra_unlabelled or facts.train_images
        return Plan(facts.classes, facts.image_px, labelled, unlabelled, self._total_steps(labelled, unlabelled))

    def misfits_with(self, facts: DatasetFacts) -> list[Misfit]:
        """What does not go with a data set of this size."""
        labelled = self.label_count(facts)
        fields = (("labels",), ("dataset",))
        if labelled > facts.train_images:
            message = f"{labelled} labels are more than {self.dataset} has training images: {facts.train_images}"
            return [Misfit(fields, message)]
        if labelled < facts.classes:
            message = f"{labelled} labels are too few: {self.dataset} has {facts.classes} classes, one each"
            return [Misfit(fields, message)]
        return []

    def _total_steps(self, labelled: int, unlabelled: int) -> int:
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        unlabelled_batch = self.batch - self.labelled_batch
        if unlabelled_batch:
            return math.ceil(self.epochs * unlabelled / unlabelled_batch)
        return math.ceil(self.epochs * labelled / self.labelled_batch)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        about_labels = self.misfits_with(self.facts) if self.facts else []
        refuse([*self._length_misfits(), *self._batch_misfits(), *about_labels, *self._folder_misfits()])
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

    def _folder_misfits(self) -> list[Misfit]:
        fields = (("folders",), ("dataset",))
        if self.dataset == "folder" and self.folders is None:
            return [Misfit(fields, "which folders? dataset: folder needs folders.labelled and folders.test")]
        if self.dataset != "folder" and self.folders is not None:
            return [Misfit(fields, f"are for dataset: folder, and the data set is {self.dataset}")]
        return []
