"""A job's model and what belongs to it, from the bucket into a folder.

What is downloaded is verified before any of it appears in the folder, and each file appears whole; the files follow
one another, so whoever ends the command between two of them finds only the first.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from orchestrator.cli.curves import write_curves
from orchestrator.cli.model_file import ModelHeader, NoModel, drop_second_head, read_header
from orchestrator.cli.output import to_yaml
from orchestrator.errors import ElasticError, UsageError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record, load_spec
from orchestrator.jobs.head import Head, Manifest, ManifestFile, load_head
from orchestrator.spec.models import JobSpec
from orchestrator.store.protocol import Missing, Store

MODEL, METRICS, CONFIG, PROGRESS = "model.pt", "metrics.json", "config.yaml", "progress.jsonl"
LABELLED = "labelled.json"
"""Which images kept their label: written with the result."""
CURVES = "tensorboard"
_NAMES = (MODEL, METRICS, LABELLED, CONFIG, PROGRESS)
TRIES = 3
"""A running job may replace its checkpoint while it is being fetched."""

Progress = Callable[[str, int, int], None]
"""Called with a file's name, its size, and the bytes that have come since the last call."""


class DamagedCheckpoint(ElasticError):
    """A file is not what was committed."""


@dataclass(frozen=True)
class Fetched:
    """What was written, and what it is."""

    directory: Path
    files: dict[Path, int]
    """Sizes in bytes."""
    model: str
    """teacher or student."""
    step: int
    final: bool
    spec: JobSpec
    header: ModelHeader

    def loading_lines(self) -> list[str]:
        """Python that loads the model."""
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
    store: Store, job: str, directory: Path, *, overwrite: bool, progress: Progress, curves: bool = False
) -> Fetched:
    """Write model, metrics, config and progress into a folder; with `curves`, TensorBoard's files too.

    Raises UsageError when there is nothing to fetch or something in the way, DamagedCheckpoint when a file was altered.
    """
    load_record(store, job)
    spec = load_spec(store, job)
    _committed_head(store, job)
    _check_free(directory, (*_NAMES, CURVES) if curves else _NAMES, overwrite)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory) as temporary:
            part = Path(temporary)
            head, model = _fetch_checkpoint(store, job, part, progress)
            header = _read_model(part / MODEL)
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
    return Fetched(directory, files, model, head.step, head.final, spec, header)


def _appear(part: Path, directory: Path, *, overwrite: bool) -> dict[Path, int]:
    """Put what was fetched in its place; with `overwrite`, what an earlier fetch has left beside it goes."""
    brought = [path for path in (*(part / name for name in _NAMES), *part.glob(f"{CURVES}/*")) if path.exists()]
    if overwrite:
        _take_away([directory / name for name in _NAMES if part / name not in brought], directory / CURVES)
    files = {}
    for path in brought:
        target = directory / path.relative_to(part)
        target.parent.mkdir(exist_ok=True)
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
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file: name another folder, as in elastic fetch JOB FOLDER")
    present = [name for name in names if (directory / name).exists()]
    if present and not overwrite:
        raise UsageError(
            f"{directory} holds {', '.join(present)} already: name another folder, or write over it with --force"
        )


def _committed_head(store: Store, job: str) -> tuple[Head, str]:
    """The head and the checkpoint that it names. Raises UsageError when there is none yet."""
    stored = load_head(store, job)
    if stored is None or stored.value.checkpoint is None:
        raise UsageError(f"{job} has no checkpoint yet, so there is nothing to fetch: see elastic show {job}")
    return stored.value, stored.value.checkpoint


def _fetch_checkpoint(store: Store, job: str, part: Path, progress: Progress) -> tuple[Head, str]:
    """The files of the checkpoint that the head names; asked again when it has moved meanwhile."""
    gone = ""
    for _ in range(TRIES):
        head, checkpoint = _committed_head(store, job)
        if checkpoint == gone:
            break
        try:
            return head, _fetch_files(store, checkpoint, part, progress)
        except Missing:
            gone = checkpoint
    raise DamagedCheckpoint(
        f"the checkpoint {gone} of {job} is incomplete in {store.url}; resume or run the job again to mend it"
    )


def _fetch_files(store: Store, checkpoint: str, part: Path, progress: Progress) -> str:
    """Model and metrics; returns whose model it is. Raises Missing."""
    manifest = _manifest(store, checkpoint)
    files = {file.name: file for file in manifest.files}
    model = "teacher" if "teacher.pt" in files else "student"
    report = "result.json" if "result.json" in files else "meta.json"
    for name, target in ((f"{model}.pt", MODEL), (report, METRICS)):
        if name not in files:
            raise DamagedCheckpoint(
                f"the checkpoint {checkpoint} has no {name}: it is not one of elastic's own trainer"
            )
        _fetch_file(store, checkpoint, files[name], part / target, progress)
    if LABELLED in files:
        _fetch_file(store, checkpoint, files[LABELLED], part / LABELLED, progress)
    if report == "meta.json":
        _keep_metrics(part / METRICS)
    return model


def _fetch_file(store: Store, checkpoint: str, file: ManifestFile, target: Path, progress: Progress) -> None:
    store.download(checkpoint + file.name, target, lambda some: progress(file.name, file.size_bytes, some))
    with target.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    size_bytes = target.stat().st_size
    if size_bytes != file.size_bytes or digest != file.sha256:
        found = f"{size_bytes:,} of {file.size_bytes:,} bytes" if size_bytes != file.size_bytes else "another SHA-256"
        raise DamagedCheckpoint(
            f"{checkpoint}{file.name} in {store.url} is not what was committed ({found}), so nothing was written; "
            "a job that runs will move to a sound checkpoint by itself"
        )


def _manifest(store: Store, checkpoint: str) -> Manifest:
    key = layout.manifest_key(checkpoint)
    found = store.get(key)
    if found is None:
        raise Missing(key)
    try:
        return Manifest.model_validate_json(found.body)
    except ValidationError as error:
        raise DamagedCheckpoint(f"{key} in {store.url} is not a manifest: {error.errors()[0]['msg']}") from error


def _keep_metrics(path: Path) -> None:
    """Of meta.json what was measured; the config has a file of its own."""
    meta = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps({key: value for key, value in meta.items() if key != "config"}, indent=2), encoding="utf-8"
    )


def _fetch_progress(store: Store, job: str, target: Path) -> None:
    """All progress lines, in the order of generations and of time within each."""
    with target.open("wb") as file:
        for entry in store.list(layout.progress_prefix(job)):
            found = store.get(entry.key)
            if found is not None:
                file.write(found.body if found.body.endswith(b"\n") or not found.body else found.body + b"\n")
