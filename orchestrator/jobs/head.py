"""The head of a job: the checkpoint to resume from, and who may move it.

The head is sealed by (epoch, generation). Whoever holds an older pair can commit no more: a new leader seals with its
epoch, a new generation with its number, before anything of theirs runs. Every move is one compare-and-swap.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from orchestrator.jobs import layout
from orchestrator.store import document
from orchestrator.store.document import Document, Nonce, Stored
from orchestrator.store.keys import is_key_part
from orchestrator.store.protocol import Conflict, Store


class Head(Document):
    """What the next generation starts from."""

    epoch: int
    generation: int
    checkpoint: str | None = None
    step: int = 0
    final: bool = False
    size_bytes: int = 0
    """Of the checkpoint; 0 also where an older version has put it there."""
    rejected: tuple[str, ...] = ()
    """Checkpoints that were found torn or altered: never to be loaded again."""


def is_file_name(name: str) -> bool:
    """Whether a file of a checkpoint can be kept under this name; it may lie in directories of the checkpoint."""
    return all(map(is_key_part, name.split("/"))) and layout.manifest_key("") != name


def _file_name(name: str) -> str:
    if not is_file_name(name):
        raise ValueError("must be the name of a file in the checkpoint itself")
    return name


class ManifestFile(BaseModel):
    """A file of a checkpoint and what it must be."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, AfterValidator(_file_name)]
    size_bytes: int
    sha256: str


class Manifest(BaseModel):
    """The files of a checkpoint. It is written after them: without it there is no checkpoint."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: int
    generation: int
    final: bool
    files: tuple[ManifestFile, ...]

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


class Superseded(Exception):
    """The head is sealed by a newer generation: this one has ended."""


class NotYetAssigned(Exception):
    """The head is sealed by a newer leader for this same generation: wait for its assignment, then commit."""


def load_head(store: Store, job: str) -> Stored[Head] | None:
    """The head as it is; None before the first generation."""
    return document.load(store, layout.head_key(job), Head)


def load_manifest(store: Store, checkpoint: str) -> Manifest | None:
    """The manifest of the checkpoint under a prefix; None: there is none. Raises pydantic's ValidationError."""
    found = store.get(layout.manifest_key(checkpoint))
    return None if found is None else Manifest.model_validate_json(found.body)


def seal(store: Store, job: str, epoch: int, generation: int, nonce: Nonce) -> Stored[Head]:
    """Take the head for (epoch, generation), keeping its checkpoint; doing it twice is doing it once.

    Raises Superseded if a newer pair holds it, Conflict if it moved meanwhile: look again, then decide again.
    """
    stored = load_head(store, job)
    if stored is None:
        return document.create(store, layout.head_key(job), Head(epoch=epoch, generation=generation), nonce)
    head = stored.value
    if (head.epoch, head.generation) == (epoch, generation):
        return stored
    if head.epoch > epoch or head.generation > generation:
        raise Superseded(f"{job}: the head is sealed by epoch {head.epoch}, generation {head.generation}")
    sealed = head.model_copy(update={"epoch": epoch, "generation": generation})
    return document.swap(store, layout.head_key(job), stored, sealed, nonce)


def commit(store: Store, job: str, epoch: int, manifest: Manifest, nonce: Nonce) -> Stored[Head]:
    """Make an uploaded checkpoint the one to resume from.

    Raises Superseded when a newer generation holds the head, NotYetAssigned when a newer leader does.
    """
    checkpoint = layout.checkpoint_prefix(job, manifest.step, manifest.generation)
    while True:
        stored = load_owned_head(store, job, epoch, manifest.generation)
        if stored.value.checkpoint == checkpoint:
            return stored
        moved = stored.value.model_copy(
            update={
                "checkpoint": checkpoint,
                "step": manifest.step,
                "final": manifest.final,
                "size_bytes": manifest.size_bytes,
            }
        )
        try:
            return document.swap(store, layout.head_key(job), stored, moved, nonce)
        except Conflict:
            continue  # only a seal can have come between: the check above tells, and ends this loop


def reject(
    store: Store, job: str, epoch: int, generation: int, bad: str, instead: Manifest | None, nonce: Nonce
) -> Stored[Head]:
    """Move the head from a checkpoint that is torn or altered to the one before it (`instead`; None: start anew)."""
    while True:
        stored = load_owned_head(store, job, epoch, generation)
        if stored.value.checkpoint != bad:
            return stored
        moved = stored.value.model_copy(
            update={
                "checkpoint": layout.checkpoint_prefix(job, instead.step, instead.generation) if instead else None,
                "step": instead.step if instead else 0,
                "final": False,
                "size_bytes": instead.size_bytes if instead else 0,
                "rejected": (*stored.value.rejected, bad),
            }
        )
        try:
            return document.swap(store, layout.head_key(job), stored, moved, nonce)
        except Conflict:
            continue


def load_owned_head(store: Store, job: str, epoch: int, generation: int) -> Stored[Head]:
    """The head, if (epoch, generation) may move it."""
    stored = load_head(store, job)
    if stored is None:
        raise Superseded(f"{job}: there is no head")
    head = stored.value
    if head.generation > generation:
        raise Superseded(f"{job}: generation {head.generation} has taken over from {generation}")
    if head.epoch > epoch:
        raise NotYetAssigned(f"{job}: a leader of epoch {head.epoch} has taken over from {epoch}")
    if (head.epoch, head.generation) != (epoch, generation):
        raise Superseded(f"{job}: the head was never sealed for epoch {epoch}, generation {generation}")
    return stored
