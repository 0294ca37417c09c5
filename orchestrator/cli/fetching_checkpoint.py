"""The model of a job's checkpoint, from the bucket into a folder: pinned while it is read, and verified."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from orchestrator.cli.pinning import Reader, pinned
from orchestrator.errors import ElasticError, UsageError
from orchestrator.jobs import layout
from orchestrator.jobs.head import Head, Manifest, ManifestFile, load_head, load_manifest
from orchestrator.store.disk import file_sha256
from orchestrator.store.protocol import Missing, Store

MODEL, METRICS = "model.pt", "metrics.json"
CHECKPOINT = "checkpoint"
"""Directory of all files of a checkpoint, as a program of one's own has written them."""
LABELLED = "labelled.json"
"""Which images kept their label: written with the result."""
TRIES = 3
"""A running job may have removed its checkpoint just before it was pinned."""

Progress = Callable[[str, int, int], None]
"""Called with a file's name, its size, and the bytes that have come since the last call."""


class DamagedCheckpoint(ElasticError):
    """A file is not what was committed."""


def committed_head(store: Store, job: str) -> tuple[Head, str]:
    """The head and the checkpoint that it names. Raises UsageError when there is none yet."""
    stored = load_head(store, job)
    if stored is None or stored.value.checkpoint is None:
        raise UsageError(f"{job} has no checkpoint yet, so there is nothing to fetch: see elastic show {job}")
    return stored.value, stored.value.checkpoint


def fetch_checkpoint(
    store: Store, job: str, part: Path, progress: Progress, reader: Reader, *, own_program: bool = False
) -> tuple[Head, str]:
    """Put the model and what belongs to it into `part`; returns the head that named it, and whose model it is.

    Of a program of one's own nobody knows which file is the model: all of them come, and its is the empty name.
    The head is asked again when its checkpoint was removed before it could be pinned, which the reader is told.
    """
    gone = ""
    for _ in range(TRIES):
        head, checkpoint = committed_head(store, job)
        if checkpoint == gone:
            break
        try:
            with pinned(store, job, checkpoint, reader):
                fetch = _fetch_all if own_program else _fetch_files
                return head, fetch(store, checkpoint, part, progress)
        except Missing:
            gone = checkpoint
            reader.tell(f"the checkpoint of step {head.step:,} was removed before it could be read; looking again")
    raise DamagedCheckpoint(
        f"the checkpoint {gone} of {job} is incomplete in {store.url}; resume or run the job again to mend it"
    )


def _fetch_files(store: Store, checkpoint: str, part: Path, progress: Progress) -> str:
    """Model and metrics; returns whose model it is. Raises Missing."""
    manifest = _manifest(store, checkpoint)
    files = {file.name: file for file in manifest.files}
    model = "teacher" if "teacher.pt" in files else "student"
    report = "result.json" if "result.json" in files else "meta.json"
    wanted = {f"{model}.pt": MODEL, report: METRICS} | ({LABELLED: LABELLED} if LABELLED in files else {})
    missing = next((name for name in wanted if name not in files), None)
    if missing is not None:
        raise DamagedCheckpoint(f"the checkpoint {checkpoint} has no {missing}: it is not one of elastic's own trainer")
    coming = _only_of(checkpoint, part)
    for name in wanted:
        _fetch_file(store, checkpoint, files[name], coming / name, progress)
    for name, target in wanted.items():
        os.replace(coming / name, part / target)
    if report == "meta.json":
        _keep_metrics(part / METRICS)
    return model


def _fetch_all(store: Store, checkpoint: str, part: Path, progress: Progress) -> str:
    """Every file, under the name that the program has given it. Raises Missing."""
    coming = _only_of(checkpoint, part)
    for file in _manifest(store, checkpoint).files:
        target = coming / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_file(store, checkpoint, file, target, progress)
    coming.rename(part / CHECKPOINT)
    return ""


def _only_of(checkpoint: str, part: Path) -> Path:
    """Where the files of this checkpoint come to; what was begun of another one goes."""
    coming = part / checkpoint.rstrip("/").rpartition("/")[2]
    for old in part.iterdir():
        if old.is_dir() and old != coming:
            shutil.rmtree(old)
    coming.mkdir(exist_ok=True)
    return coming


def _fetch_file(store: Store, checkpoint: str, file: ManifestFile, target: Path, progress: Progress) -> None:
    """Download and verify a file; one that came whole before the command was broken off is not asked for again."""
    if target.exists() and not _fault(target, file):
        progress(file.name, file.size_bytes, file.size_bytes)
        return
    digest = store.download(checkpoint + file.name, target, lambda some: progress(file.name, file.size_bytes, some))
    fault = _fault(target, file, digest)
    if fault:
        raise DamagedCheckpoint(
            f"{checkpoint}{file.name} in {store.url} is not what was committed ({fault}), so nothing was written; "
            "a job that runs will move to a sound checkpoint by itself"
        )


def _fault(path: Path, file: ManifestFile, digest: str | None = None) -> str:
    """How a file differs from what was committed; empty: not at all. `digest`: its SHA-256, where it is known."""
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        return f"{size_bytes:,} of {file.size_bytes:,} bytes"
    return "" if (digest or file_sha256(path)) == file.sha256 else "another SHA-256"


def _manifest(store: Store, checkpoint: str) -> Manifest:
    key = layout.manifest_key(checkpoint)
    try:
        manifest = load_manifest(store, checkpoint)
    except ValidationError as error:
        raise DamagedCheckpoint(f"{key} in {store.url} is not a manifest: {error.errors()[0]['msg']}") from error
    if manifest is None:
        raise Missing(key)
    return manifest


def _keep_metrics(path: Path) -> None:
    """Of meta.json what was measured; the config has a file of its own."""
    meta = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps({key: value for key, value in meta.items() if key != "config"}, indent=2), encoding="utf-8"
    )
