"""Checkpoints between the run directory and the bucket: hash, upload, commit; restore and verify.

Files go up first, under keys that no one else uses; then the manifest with their SHA-256; then the head moves by one
compare-and-swap that only the sealed (epoch, generation) can win. Whatever dies in between leaves the head as it was.
"""

import contextlib
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from orchestrator.agent.run_directory import LocalCheckpoint, RunDirectory
from orchestrator.jobs import layout
from orchestrator.jobs.head import Manifest, ManifestFile, NotYetAssigned, Superseded, commit, load_owned_head, reject
from orchestrator.jobs.instances import Assignment
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Conflict, Missing, Store, StoreError

LOOK_EVERY_S = 0.25
RETRY_AFTER_S = 2.0

NICENESS = 10
"""Of the committing thread: hashing takes what the trainer leaves of the processors."""

Tell = Callable[[Literal["checkpoint_rejected", "checkpoint_failed", "note"], str], None]


@dataclass(frozen=True)
class Lineage:
    """Whose checkpoints these are, and who may move the head now."""

    job: str
    generation: int
    epoch: Callable[[], int]
    """A new leader seals with a new epoch while the generation goes on; the agent learns it from its assignment."""


class Committer:
    """Commits what the trainer writes, in a thread of its own, so that a slow upload delays nothing else."""

    def __init__(self, store: Store, lineage: Lineage, run: RunDirectory, kept: int, nonce: Nonce, tell: Tell) -> None:
        self._store = store
        self._lineage = lineage
        self._run = run
        self._kept = kept
        self._nonce = nonce
        self._tell = tell
        self._wake = threading.Event()
        self._settling = False
        self._abandoned = False
        self._complaint = ""
        self._uploaded: tuple[int, Manifest] | None = None
        self.committed_step: int | None = None
        self.superseded = False
        self.done = False
        self.crashed = False
        """Whether the thread ended by a fault of its own: nothing more will be committed."""
        self._thread = threading.Thread(target=self._work, name="committer", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """The trainer has ended: commit what is left, then be done."""
        self._settling = True
        self._wake.set()

    def abandon(self) -> None:
        """Commit nothing more."""
        self._abandoned = True
        self._wake.set()
        self._thread.join(timeout=30)

    def _work(self) -> None:
        self.crashed = True
        try:
            if sys.platform.startswith("linux"):  # where a thread has a priority of its own
                thread = threading.get_native_id()
                # Never less nice than the agent was started: only root may do that.
                os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
            self._commit_all()
            self.crashed = False  # the traceback of any other end goes to the agent's log
        finally:
            self.done = True

    def _commit_all(self) -> None:
        while not (self._abandoned or self.superseded):
            settling = self._settling  # read before looking: what is written before the end is then seen
            waiting = self._run.whole_checkpoints()
            if waiting and not self._try(waiting[-1]):
                self._sleep(RETRY_AFTER_S)
                continue
            for old in waiting:
                shutil.rmtree(old.path, ignore_errors=True)
            if settling and not waiting:
                break
            if not waiting:
                self._sleep(LOOK_EVERY_S)

    def _sleep(self, seconds: float) -> None:
        """Until the time has passed, or somebody has asked for something meanwhile."""
        self._wake.wait(seconds)
        self._wake.clear()

    def _try(self, checkpoint: LocalCheckpoint) -> bool:
        """Commit one checkpoint; False: not now, try again."""
        try:
            manifest = self._upload(checkpoint)
            commit(self._store, self._lineage.job, self._lineage.epoch(), manifest, self._nonce)
            self.committed_step = checkpoint.step
            self._complaint = ""
            remove_old(self._store, self._lineage, manifest, self._kept)
            return True
        except Superseded:
            self.superseded = True
            return True
        except NotYetAssigned:
            return False
        except (StoreError, OSError) as error:
            if not self._complaint:  # once until a checkpoint is committed again, not once a step
                self._complaint = str(error)
                self._tell("checkpoint_failed", f"step {checkpoint.step} could not be committed, trying again: {error}")
            return False

    def _upload(self, checkpoint: LocalCheckpoint) -> Manifest:
        """Upload a checkpoint once: by the second try it may be the head, and must not be touched."""
        if self._uploaded is None or self._uploaded[0] != checkpoint.step:
            self._uploaded = (checkpoint.step, upload(self._store, self._lineage, checkpoint))
        return self._uploaded[1]


def upload(store: Store, lineage: Lineage, checkpoint: LocalCheckpoint) -> Manifest:
    """Hash and upload a checkpoint's files, then its manifest."""
    prefix = layout.checkpoint_prefix(lineage.job, checkpoint.step, lineage.generation)
    files = []
    try:
        for path in checkpoint.files():
            store.upload(path, prefix + path.name)  # first: it says what is wrong with a name
            files.append(ManifestFile(name=path.name, size_bytes=path.stat().st_size, sha256=sha256(path)))
    except (StoreError, OSError):
        _remove(store, prefix)  # half a checkpoint is of no use, and a full disk would stay full
        raise
    manifest = Manifest(step=checkpoint.step, generation=lineage.generation, final=checkpoint.final, files=tuple(files))
    body = manifest.model_dump_json(indent=2).encode()
    try:
        store.create(layout.manifest_key(prefix), body)
    except Conflict:
        present = store.get(layout.manifest_key(prefix))
        if present is None or present.body != body:
            raise StoreError(
                f"{store.url}: {prefix} holds another checkpoint of the same step and generation"
            ) from None
    return manifest


def remove_old(store: Store, lineage: Lineage, head: Manifest, kept: int) -> None:
    """Remove sound checkpoints beyond `kept`, and what is of no use: half uploaded, rejected, or past the head.

    Never the head's, and never a newer generation's: whoever has been superseded meanwhile removes nothing. Raises
    Superseded or NotYetAssigned.
    """
    whole: list[str] = []
    useless: list[str] = []
    rejected = load_owned_head(store, lineage.job, lineage.epoch(), lineage.generation).value.rejected
    for prefix, step, generation in _checkpoints(store, lineage.job):
        if (step, generation) > (head.step, head.generation):
            if generation < lineage.generation:
                useless.append(prefix)
        elif prefix in rejected or store.get(layout.manifest_key(prefix)) is None:
            useless.append(prefix)
        else:
            whole.append(prefix)
    load_owned_head(store, lineage.job, lineage.epoch(), lineage.generation)  # the listing may have taken its time
    for prefix in [*useless, *whole[:-kept]]:
        _remove(store, prefix)


def _checkpoints(store: Store, job: str) -> Iterator[tuple[str, int, int]]:
    """Prefix, step and generation of everything that is named like a checkpoint, in order."""
    for name in store.prefixes(layout.checkpoints_prefix(job)):
        if (parsed := layout.parse_checkpoint(name)) is not None:
            yield layout.checkpoint_at(job, name), *parsed


def _remove(store: Store, prefix: str) -> None:
    """Remove a checkpoint's objects: the manifest first, so that half a checkpoint never looks whole."""
    with contextlib.suppress(StoreError, Conflict):  # what stays now is removed after a later commit
        store.delete(layout.manifest_key(prefix))
        for entry in list(store.list(prefix)):
            store.delete(entry.key)


def restore(store: Store, assignment: Assignment, run: RunDirectory, nonce: Nonce, tell: Tell) -> int:
    """Bring the checkpoint to resume from into `resume/` and return its step; 0: start anew.

    One that is torn or altered is never loaded: the head moves to the one before it, and that is told.
    """
    wanted = assignment.resume
    while wanted is not None:
        problem = _fetch(store, wanted, run)
        if problem is None:
            return layout.checkpoint_step(wanted)
        shutil.rmtree(run.resume, ignore_errors=True)
        instead = next(_sound_before(store, assignment, wanted), None)
        head = reject(store, assignment.job, assignment.epoch, assignment.generation, wanted, instead, nonce)
        then = f"resuming from step {head.value.step}" if head.value.checkpoint else "starting anew"
        tell("checkpoint_rejected", f"checkpoint {wanted.split('/')[-2]} is not what was committed ({problem}); {then}")
        wanted = head.value.checkpoint
    return 0


def _fetch(store: Store, prefix: str, run: RunDirectory) -> str | None:
    """Download and verify a checkpoint; says what is wrong with it."""
    manifest = _manifest(store, prefix)
    if manifest is None:
        return "its manifest is missing or unreadable"
    run.resume.mkdir(parents=True, exist_ok=True)
    for file in manifest.files:
        path = run.resume / Path(file.name).name
        try:
            store.download(prefix + file.name, path)
        except Missing:
            return f"{file.name} is missing"
        if path.stat().st_size != file.size_bytes:
            return f"{file.name} has {path.stat().st_size} bytes instead of {file.size_bytes}"
        if sha256(path) != file.sha256:
            return f"{file.name} has another SHA-256 than its manifest says"
    return None


def _sound_before(store: Store, assignment: Assignment, bad: str) -> Iterator[Manifest]:
    """Manifests of checkpoints before `bad`, newest first, without those that were rejected before."""
    head = load_owned_head(store, assignment.job, assignment.epoch, assignment.generation).value
    for prefix, _, _ in reversed([found for found in _checkpoints(store, assignment.job) if found[0] < bad]):
        manifest = _manifest(store, prefix)
        if manifest is not None and prefix not in head.rejected:
            yield manifest


def _manifest(store: Store, prefix: str) -> Manifest | None:
    found = store.get(layout.manifest_key(prefix))
    if found is None:
        return None
    try:
        return Manifest.model_validate_json(found.body)
    except ValidationError:
        return None


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
