"""A checkpoint on disk: a directory that is whole or absent.

meta.json            format, counters, config, what it was made with, latest accuracies
student.pt           plain state dict of torchvision's ResNet, BatchNorm buffers included (and fc2: a second head)
teacher.pt           the same of the teacher; absent when supervised
optimizer.pt         what the optimiser remembers, by its name for it and the parameter's: momentum/conv1.weight
result.json          in the final one only, with labelled.json: which images kept their label
trainer-sha256.json  of each of these, by name, as they were meant to be: what is read later is held against it
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from trainer.config import TrainingConfig
from trainer.data.dataset import Dataset
from trainer.durable_file import DurableFile
from trainer.errors import CheckpointRefused
from trainer.network import StateDict
from trainer.priority import Do, at_once
from trainer.snapshot import Snapshot
from trainer.state import Counters, TrainState, restore, state_files
from trainer.torch_file import NotTensors, read_tensors
from trainer.world import World

FORMAT = 2
DIGESTS = "trainer-sha256.json"
FREE_TO_CHANGE = frozenset(
    {
        "evaluate_every",
        "data_dir",
        "folders.labelled",
        "folders.unlabelled",
        "folders.test",
        "folders.unreadable",
        "loading.images",
        "loading.workers",
        "loading.prefetch",
        "on_divergence",
    }
)
"""Settings that may differ between a checkpoint and the run that goes on from it: they change no weight.

Folders may have moved; that they hold the same images is told by the fingerprint.
"""


class MadeWith(BaseModel):
    """What computed a checkpoint: where this differs, the bits of later steps may."""

    model_config = ConfigDict(frozen=True)

    python: str
    torch: str
    device: str
    precision: str
    channels_last: bool = False
    compiled: bool = False
    numpy: str = ""
    """Its generator chooses the labelled images."""
    pillow: str = ""
    """It decodes and scales images."""
    cudnn: str = ""


class Meta(BaseModel):
    """meta.json."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    step: int
    counters: Counters
    dataset: str
    """Fingerprint of the images."""
    total_steps: int
    samples: int
    epoch: float
    seconds_training: float
    student_accuracy: float | None
    teacher_accuracy: float | None
    made_with: MadeWith
    world_size: int
    config: dict[str, Any]


@dataclass(frozen=True)
class Resumed:
    """The checkpoint that a run goes on from, and what it says of itself."""

    place: Path
    meta: Meta


def made_with(world: World, precision: str, *, channels_last: bool, compiled: bool) -> MadeWith:
    """What this process computes with."""
    cuda = world.device.type == "cuda"
    device = torch.cuda.get_device_name(world.device) if cuda else f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return MadeWith(
        python=platform.python_version(),
        torch=torch.__version__,
        device=device,
        precision=precision,
        channels_last=channels_last,
        compiled=compiled,
        numpy=np.__version__,
        pillow=version("pillow"),
        cudnn=str(torch.backends.cudnn.version()) if cuda else "",  # type: ignore[no-untyped-call]
    )


def directory_name(step: int) -> str:
    """The name of a step's checkpoint; names sort as steps do."""
    return f"step-{step:012d}"


def checkpoints_in(parent: Path) -> dict[int, Path]:
    """The whole checkpoints of a directory, by step."""
    try:
        return {int(m[1]): path for path in parent.iterdir() if (m := re.fullmatch(r"step-(\d{12})", path.name))}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def write_checkpoint(
    parent: Path,
    snapshot: Snapshot,
    meta: Meta,
    documents: Mapping[str, dict[str, Any]] | None = None,
    do: Do = at_once,
) -> Path:
    """Write a checkpoint beside its place, make it durable, let it appear by rename; raises OSError.

    documents: further JSON files of it, by name. do: how the pieces of this work are done.
    """
    # Integrity is proved by SHA-256; a second checksum would cost a seventh more work. Each thread has its own setting.
    torch.serialization.set_crc32_options(False)
    parent.mkdir(parents=True, exist_ok=True)
    place = parent / directory_name(snapshot.step)
    temporary = parent / f".tmp-{place.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        digests = {}
        for name, tensors in snapshot.files().items():
            with DurableFile(temporary / name, do) as file:
                torch.save(tensors, cast(IO[bytes], file))  # of a file it needs `write` and `flush`
            digests[name] = file.sha256
        for name, document in {"meta.json": meta.model_dump(mode="json"), **(documents or {})}.items():
            digests[name] = _write_json(temporary / name, document, do)
        _write_json(temporary / DIGESTS, digests, do)
        do(partial(_sync_directory, temporary))
        replaced = _set_aside(place)  # the same step again, from a resume: it may belong to an earlier run
        temporary.rename(place)
        shutil.rmtree(replaced, ignore_errors=True)
        do(partial(_sync_directory, parent))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return place


def remove_checkpoint(place: Path) -> None:
    """Remove a checkpoint, if there is one: it vanishes by rename, so that nobody finds half of it. Raises OSError."""
    shutil.rmtree(_set_aside(place), ignore_errors=True)


def _set_aside(place: Path) -> Path:
    """Rename a checkpoint, if there is one, to a name under which it counts as removed, and return that."""
    going = place.with_name(f".tmp-old-{place.name}")
    shutil.rmtree(going, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        place.rename(going)
    return going


def load_checkpoint(directory: Path, config: TrainingConfig, dataset: Dataset, state: TrainState) -> Meta:
    """Set `state` from a checkpoint; raises CheckpointRefused, with the reason, if it is damaged or of another run."""
    _require_unaltered(directory)
    meta = read_meta(directory)
    _require_same_config(directory, meta, config)
    if config.dataset == "folder" and not meta.dataset.startswith("content-"):
        raise CheckpointRefused(
            f"{directory}: is of an earlier version, which knew images by names and sizes alone: nobody can tell "
            "whether these are the same; go on with that version, or start without it"
        )
    if meta.dataset != dataset.fingerprint:
        raise CheckpointRefused(
            f"{directory}: was trained on other images than {config.dataset} has now, or on others of its versions; "
            "restore them, or start without it"
        )
    expected = state_files(state, state.tensors(), 0)
    files = {name: _read_tensors(directory / name) for name in expected}
    for name, tensors in files.items():
        _require_same_shapes(directory / name, tensors, expected[name])
    restore(state, files, replace(meta.counters))
    return meta


def _require_unaltered(directory: Path) -> None:
    """Where the SHA-256 of its files lies beside them; where it does not, whoever brought them has compared them."""
    try:
        digests = json.loads((directory / DIGESTS).read_text(encoding="utf-8"))
        for name, wanted in digests.items():
            with open(directory / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != wanted:
                raise CheckpointRefused(
                    f"{directory / name}: altered since it was written; resume from another checkpoint"
                )
    except OSError:
        return  # also of a file that it names: whoever needs that file tells of it
    except (ValueError, AttributeError, TypeError):
        raise CheckpointRefused(f"{directory / DIGESTS}: damaged; resume from another checkpoint") from None


def read_meta(directory: Path) -> Meta:
    """What a checkpoint says of itself; raises CheckpointRefused."""
    path = directory / "meta.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise CheckpointRefused(
                f"{path}: checkpoint format {found}, this trainer reads {FORMAT}; use the one that wrote it"
            )
        return Meta.model_validate(content)
    except OSError as error:
        raise CheckpointRefused(f"{path}: cannot be read ({error.strerror}); resume from another checkpoint") from None
    except (ValidationError, ValueError):
        raise CheckpointRefused(
            f"{path}: damaged, not a checkpoint's meta.json; resume from another checkpoint"
        ) from None


def _require_same_config(directory: Path, meta: Meta, config: TrainingConfig) -> None:
    theirs, ours = what_matters(meta.config), what_matters(config.model_dump(mode="json"))
    names = sorted(theirs.keys() | ours.keys())
    differing = [
        f"{name} (checkpoint {theirs.get(name, 'absent')}, config {ours.get(name, 'absent')})"
        for name in names
        if theirs.get(name, "absent") != ours.get(name, "absent")
    ]
    if differing:
        raise CheckpointRefused(
            f"{directory}: a checkpoint of another run, these differ: {', '.join(differing)}; "
            "set them alike, or start without it, in another directory"
        )
    if not 0 <= meta.step <= meta.total_steps:
        raise CheckpointRefused(f"{directory}: step {meta.step} is not within the run's {meta.total_steps} steps")


def what_matters(config: dict[str, Any]) -> dict[str, Any]:
    """The settings by which the weights come about, by their dotted names."""
    return {name: value for name, value in _leaves(config).items() if name not in FREE_TO_CHANGE}


def _leaves(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def _read_tensors(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = read_tensors(file)
    except FileNotFoundError:
        raise CheckpointRefused(f"{path}: missing; resume from another checkpoint") from None
    except OSError as error:
        raise CheckpointRefused(f"{path}: cannot be read ({error.strerror}); resume from another checkpoint") from None
    except NotTensors as reason:
        raise CheckpointRefused(f"{path}: damaged, it {reason}; resume from another checkpoint") from None
    if not isinstance(content, dict):
        raise CheckpointRefused(f"{path}: not a state dict; resume from another checkpoint")
    return content


def _require_same_shapes(path: Path, found: dict[str, Any], expected: StateDict) -> None:
    for name in sorted(found.keys() | expected.keys()):
        theirs, ours = _shape(found.get(name)), _shape(expected.get(name))
        if theirs != ours:
            raise CheckpointRefused(f"{path}: {name} is {theirs} there and {ours} in this run's model")


def _shape(tensor: Any) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else "absent"


def _write_json(path: Path, content: Mapping[str, Any], do: Do) -> str:
    """Returns its SHA-256."""
    with DurableFile(path, do) as file:
        file.write(f"{json.dumps(content, indent=1)}\n".encode())
    return file.sha256


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
