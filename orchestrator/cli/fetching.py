"""A job's model and what belongs to it, from the bucket into a folder.

What is downloaded is verified before any of it appears in the folder, and each file appears whole; the files follow
one another, so whoever ends the command between two of them finds only the first.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cli.curves import write_curves
from orchestrator.cli.fetching_checkpoint import (
    CHECKPOINT,
    LABELLED,
    METRICS,
    MODEL,
    DamagedCheckpoint,
    Progress,
    committed_head,
    fetch_checkpoint,
)
from orchestrator.cli.model_file import ModelHeader, NoModel, drop_second_head, read_header
from orchestrator.cli.part_directory import part_directory
from orchestrator.cli.pinning import Reader
from orchestrator.errors import ElasticError, UsageError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record, load_spec
from orchestrator.jobs.phases import JobPhase
from orchestrator.reading.as_yaml import to_yaml
from orchestrator.spec.models import JobSpec
from orchestrator.store.protocol import Store

CONFIG, PROGRESS = "config.yaml", "progress.jsonl"
CURVES = "tensorboard"
_NAMES = (MODEL, METRICS, LABELLED, CONFIG, PROGRESS)
_DIRECTORIES = (CURVES, CHECKPOINT)


@dataclass(frozen=True)
class Fetched:
    """What was written, and what it is."""

    directory: Path
    files: dict[Path, int]
    """Sizes in bytes."""
    model: str
    """teacher or student; empty: all files of a checkpoint that a program of one's own has written."""
    step: int
    final: bool
    spec: JobSpec
    header: ModelHeader | None

    def loading_lines(self) -> list[str]:
        """Python that loads the model; none for what only its own program knows to load."""
        if self.header is None or self.spec.training is None:
            return []
        network = f"{self.spec.training.model.name}(num_classes={self.header.classes})"
        lines = ["import torch, torchvision", f"model = torchvision.models.{network}"]
        if self.header.has_small_image_stem:
            lines.append("model.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)")
            lines.append("model.maxpool = torch.nn.Identity()")
        # On the CPU, wherever it was trained.
        load = f'torch.load({str(self.directory / MODEL)!r}, map_location="cpu", weights_only=True)'
        lines.append(f"model.load_state_dict({load})")
        return [*lines, "model.eval()"]


def fetch_job(
    store: Store,
    job: str,
    directory: Path,
    *,
    overwrite: bool,
    progress: Progress,
    reader: Reader,
    curves: bool = False,
) -> Fetched:
    """Write model, metrics, config and progress into a folder; with `curves`, TensorBoard's files too.

    Of a program of one's own, all files of its last checkpoint instead of model and metrics.

    Raises UsageError when there is nothing to fetch or something in the way, DamagedCheckpoint when a file was altered.
    """
    record = load_record(store, job).value
    spec = load_spec(store, job)
    committed_head(store, job)
    own_program = spec.training is None
    names = (CHECKPOINT, CONFIG, PROGRESS) if own_program else _NAMES
    _check_free(directory, (*names, CURVES) if curves else names, overwrite)
    try:
        with part_directory(directory, job, reader.tell) as part:
            head, model = fetch_checkpoint(store, job, part, progress, reader, own_program=own_program)
            header = None if own_program else _read_model(part / MODEL)
            (part / CONFIG).write_text(to_yaml(spec.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
            _fetch_progress(store, job, part / PROGRESS)
            if curves:
                with (part / PROGRESS).open("rb") as lines:
                    write_curves(lines, part / CURVES)
            files = _appear(part, directory, overwrite=overwrite)
    except ImportError as error:
        raise ElasticError(
            f"TensorBoard's files cannot be written, so nothing was ({error}): install tensorboardX with uv sync, or "
            "fetch without --tensorboard"
        ) from error
    except OSError as error:
        raise ElasticError(f"cannot write into {directory}: {error.strerror or error}") from error
    final = head.final or (own_program and record.phase is JobPhase.SUCCEEDED)
    return Fetched(directory, files, model, head.step, final, spec, header)


def _appear(part: Path, directory: Path, *, overwrite: bool) -> dict[Path, int]:
    """Put what was fetched in its place; with `overwrite`, what an earlier fetch has left beside it goes."""
    within = [path for name in _DIRECTORIES for path in sorted((part / name).rglob("*")) if path.is_file()]
    brought = [path for path in (*(part / name for name in _NAMES), *within) if path.exists()]
    if overwrite:
        _take_away([directory / name for name in _NAMES if part / name not in brought], directory / CURVES)
        shutil.rmtree(directory / CHECKPOINT, ignore_errors=True)
    files = {}
    for path in brought:
        target = directory / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
        files[target] = target.stat().st_size
    return files


def _take_away(files: Sequence[Path], curves: Path) -> None:
    for old in (*files, *curves.glob("*tfevents*")):  # TensorBoard would draw old curves beside the new ones
        old.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or with files of somebody else's in it
        curves.rmdir()


def _read_model(path: Path) -> ModelHeader:
    """What the model is; a second last layer, which only training needs, is taken off."""
    try:
        header = read_header(path)
    except NoModel as error:
        raise DamagedCheckpoint(
            f"the checkpoint's model is not one of elastic's own trainer ({error}), so nothing was written"
        ) from error
    if header.has_second_head:
        drop_second_head(path)
    return header


def _check_free(directory: Path, names: Sequence[str], overwrite: bool) -> None:
    try:
        is_file = directory.exists() and not directory.is_dir()
        present = [] if is_file else [name for name in names if (directory / name).exists()]
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be reached ({error.strerror}): name another folder, as in elastic fetch JOB FOLDER"
        ) from error
    if is_file:
        raise UsageError(f"{directory} is a file: name another folder, as in elastic fetch JOB FOLDER")
    if present and not overwrite:
        raise UsageError(
            f"{directory} holds {', '.join(present)} already: name another folder, or write over it with --force"
        )


def _fetch_progress(store: Store, job: str, target: Path) -> None:
    """All progress lines, in the order of generations and of time within each."""
    with target.open("wb") as file:
        for entry in store.list(layout.progress_prefix(job)):
            found = store.get(entry.key)
            if found is not None:
                file.write(found.body if found.body.endswith(b"\n") or not found.body else found.body + b"\n")
