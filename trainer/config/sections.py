"""The sections within `training`: the network, how it learns, what it sees."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.base import Strict

LARGEST_SMALL_IMAGE_PX = 64
"""Up to this size the network's first layers keep an image at full size."""

MAX_IMAGE_PX = 1024

Share = Annotated[float, Field(ge=0, le=1)]


class Folders(Strict):
    """Your own images, for `dataset: folder`: local directories, or s3://bucket/prefix, copied to each instance."""

    labelled: Annotated[str, Field(min_length=1)] = Field(
        description="One directory a class, named as the class, with its images at any depth.", examples=["data/train"]
    )
    unlabelled: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Images without labels, at any depth; or keep labels back by `labels`.",
        examples=["data/more"],
    )
    test: Annotated[str, Field(min_length=1)] = Field(
        description="Like labelled, with the same classes: the accuracy is of these.", examples=["data/test"]
    )
    image_px: Annotated[int, Field(ge=8, le=MAX_IMAGE_PX)] = Field(
        224, description="Images are brought to this height and width: scaled by the shorter side, centre kept."
    )
    unreadable: Literal["fail", "skip"] = Field(
        "fail", description="What to do when files cannot be read as images: stop and name them, or go on without them."
    )
    mirrors: bool = Field(True, description="Whether an image's mirror image is of the same class, for flip: auto.")


class Loading(Strict):
    """How images come to the device; the samples are the same either way, so a resize or resume may change it."""

    images: Literal["auto", "device", "stream"] = Field(
        "auto",
        description="device: all decoded and in the device's memory; stream: decoded by loader workers as they are "
        "needed, after one look at each file at the first start; auto: device where they fit.",
    )
    workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = Field(
        "auto",
        description="Loader processes per worker when streaming; auto: its share of the CPU cores, at most 8, "
        "and one where the images are kept decoded.",
    )
    prefetch: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="Batches that each loader process has ready ahead when streaming."
    )


class Model(Strict):
    """The network: a torchvision ResNet."""

    name: Literal["resnet18", "resnet34", "resnet50"] = Field("resnet18", description="Architecture, from torchvision.")
    stem: Literal["auto", "cifar", "imagenet"] = Field(
        "auto",
        description="First layers: 3x3 without pooling (cifar), 7x7 with pooling (imagenet); auto: cifar up to 64 px.",
    )
    weights: Annotated[str, Field(min_length=1)] = Field(
        "none",
        description="Weights to start from: none, imagenet (torchvision's, downloaded once), "
        "or the path of a state dict. Layers whose shape differs by stem or classes start fresh.",
    )
    checkpoint_activations: bool = Field(
        False, description="Compute activations again in the backward pass: less memory, about a third more time."
    )

    def has_cifar_stem(self, image_px: int) -> bool:
        """Whether the first layers are those for small images, for images of this size."""
        return self.stem == "cifar" or (self.stem == "auto" and image_px <= LARGEST_SMALL_IMAGE_PX)


class Optimizer(Strict):
    """How gradients become updates."""

    name: Literal["sgd", "adamw", "lamb"] = Field(
        "sgd", description="sgd: with momentum; adamw; lamb: AdamW's step, scaled per layer, for large batches."
    )
    lr: Annotated[float, Field(gt=0)] = Field(0.05, description="Peak learning rate; adamw wants about 1e-3.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="sgd: momentum.")
    nesterov: bool = Field(True, description="sgd: Nesterov's form of the momentum.")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="adamw, lamb: decay of the gradient's mean.")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="adamw, lamb: decay of its square's mean.")
    eps: Annotated[float, Field(gt=0)] = Field(1e-6, description="adamw, lamb: what keeps a division from zero.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        2e-4, description="sgd: L2 penalty; adamw, lamb: decoupled decay, where 0.01 to 0.05 is usual."
    )
    decay_all: bool = Field(True, description="Whether BatchNorm's weights and biases decay too.")
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Scale the gradient down to this norm where it is longer.", examples=[1.0]
    )


class Schedule(Strict):
    """The learning rate over the run."""

    name: Literal["cosine", "linear", "step", "constant"] = Field(
        "cosine", description="Shape after the warm-up: down to zero (cosine, linear), in steps, or level."
    )
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.05, description="Share of all steps that warms up linearly.")
    milestones: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(max_length=32)] = Field(
        [0.5, 0.75], description="step: the shares of the run at which the rate falls."
    )
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="step: what it is multiplied by then.")


class Consistency(Strict):
    """The pull of the student towards the teacher."""

    loss: Literal["mse", "kl"] = Field(
        "mse",
        description="mse: squared distance of softmax outputs, mean over classes; kl: divergence of the student's "
        "from the teacher's, which wants a weight of 1 to 10.",
    )
    weight: Annotated[float, Field(ge=0)] = Field(
        30.0, description="Full weight, reached at the end of the ramp-up; the paper has 100 for CIFAR-10's long runs."
    )
    ramp_up: Share = Field(0.5, description="Share of all steps over which the weight rises as exp(-5 (1 - t)^2).")
    on_labelled: bool = Field(True, description="Whether labelled images are pulled too, as in the paper.")
    second_head: bool = Field(
        False,
        description="Give the student a second last layer for the teacher to pull, so that labels pull the other.",
    )
    head_distance: Annotated[float, Field(ge=0)] = Field(
        0.01, description="With second_head: weight of the squared distance between the logits of the two heads."
    )


class Ema(Strict):
    """The teacher: an exponential moving average of the student."""

    decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.97, description="Decay, reached by min(1 - 1/(step + 1), decay)."
    )
    decay_after_ramp_up: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="Another decay once the consistency weight is full; the paper has 0.99, then 0.999.",
        examples=[0.999],
    )
    batch_norm: Literal["own", "averaged"] = Field(
        "own",
        description="The teacher's BatchNorm statistics for evaluation: those of its own batches, "
        "or the moving average of the student's.",
    )


class Augmentation(Strict):
    """What student and teacher each see of an image, drawn apart per sample, on the device; test images stay as is."""

    flip: bool | Literal["auto"] = Field("auto", description="Mirror half of the images; auto: not digits.")
    translate_px: Annotated[int, Field(ge=0, le=MAX_IMAGE_PX)] | Literal["auto"] = Field(
        "auto", description="Shift by up to so many pixels each way; auto: an eighth of the height."
    )
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="Turn by up to so much each way.")
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Grow or shrink by up to this share.")
    shear: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Slant by up to this share of the height.")
    crop_area: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Random resized crop: the smallest share of the area that is kept; 1: no such crop."
    )
    brightness: Share = Field(0.0, description="Colour jitter: change by up to this share.")
    contrast: Share = Field(0.0, description="Colour jitter: change by up to this share.")
    saturation: Share = Field(0.0, description="Colour jitter: change by up to this share; not for grey images.")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="Colour jitter: turn by up to this share of a circle."
    )
    cutout: Share = Field(0.0, description="Blank a square of this share of the height at a random place.")
    policy: Literal["none", "strong"] = Field(
        "none", description="strong: two further operations a sample, drawn from a list of shapes and colours."
    )
    noise: Annotated[float, Field(ge=0)] = Field(
        0.15, description="Standard deviation of the Gaussian noise in the input, of normalised pixels."
    )
    teacher_noise: Annotated[float, Field(ge=0)] | None = Field(
        None, description="The same for the teacher alone, where it differs.", examples=[0.3]
    )

    def translation_px(self, image_px: int) -> int:
        """By how many pixels images of this size are shifted at most."""
        return image_px // 8 if self.translate_px == "auto" else self.translate_px

    def flips(self, mirrors: bool) -> bool:
        """Whether to mirror images of a data set whose mirror images are, or are not, of the same class."""
        return mirrors if self.flip == "auto" else self.flip
