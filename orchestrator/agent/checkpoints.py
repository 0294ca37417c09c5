"""Checkpoints between the run directory and the bucket: upload with their SHA-256, commit; restore and verify.

The trainer hashes what it writes: a store that reads the file to send it compares, a local one takes its word.

Files go up first, under keys that no one else uses; then the manifest with their SHA-256; then the head moves by one
compare-and-swap that only the sealed (epoch, generation) can win. Whatever dies in between leaves the head as it was.
"""

import contextlib
import errno
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from orchestrator.agent.background import in_pieces
from orchestrator.agent.equipment import Equipment, LocalCheckpoint, Run, UnfitCheckpoint
from orchestrator.jobs import layout
from orchestrator.jobs.head import (
    Manifest,
    ManifestFile,
    NotYetAssigned,
    Superseded,
    commit,
    is_file_name,
    load_manifest,
    load_owned_head,
    reject,
)
from orchestrator.jobs.instances import Assignment
from orchestrator.jobs.pins import PinWatch
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Altered, Conflict, Store, StoreError

RETRY_AFTER_S = 2.0
FETCHES = 2
"""What came wrong once may have been altered on its way, or by this machine; what does twice is wrong."""

Tell = Callable[[Literal["checkpoint_rejected", "checkpoint_failed", "note"], str], None]


class Replaced(Exception):
    """The trainer wrote a step once more while it was being uploaded: what was read may be of both."""


class WrittenTwice(Exception):
    """The trainer wrote its last checkpoint under the step of one before, which is in the bucket already."""


@dataclass(frozen=True)
class Lineage:
    """Whose checkpoints these are, and who may move the head now."""

    job: str
    generation: int
    epoch: Callable[[], int]
    """A new leader seals with a new epoch while the generation goes on; the agent learns it from its assignment."""


class Committer:
    """Commits what the trainer writes, in the background, so that a slow upload delays nothing else."""

    def __init__(
        self,
        store: Store,
        lineage: Lineage,
        run: Run,
        kept: int,
        nonce: Nonce,
        tell: Tell,
        equipment: Equipment,
    ) -> None:
        self._store = store
        self._lineage = lineage
        self._run = run
        self._kept = kept
        self._nonce = nonce
        self._tell = tell
        self._look_every_s = equipment.glance_every_s
        self._settling = False
        self._abandoned = False
        self._told = self._told_of_old = False
        self._state = ""
        self._sent_whole: Manifest | None = None
        self._has_manifest = False
        self._sending: LocalCheckpoint | None = None
        self._sent: dict[str, ManifestFile] = {}
        self._stuck: set[tuple[int, bool]] = set()
        self._pins = PinWatch(store, lineage.job, equipment.monotonic)
        self.committed_step: int | None = None
        self.final_committed = False
        """Whether that step's checkpoint is the last of the run: the job has its result."""
        self.lost = ""
        """Why a checkpoint can never be committed, until one of no earlier step is."""
        self._lost_step = 0
        self.superseded = False
        self.fault = ""
        """Why nothing more can be committed, if that is the trainer's doing."""
        self.hopeless = False
        """Whether the next generation would come to the same fault."""
        self._task = equipment.background.start(in_pieces(self._pieces()), "committer", nice=True)

    @property
    def done(self) -> bool:
        """Whether nothing more will be committed."""
        return self._task.done

    @property
    def crashed(self) -> bool:
        """Whether that is so by a fault of its own."""
        return self._task.crashed

    @property
    def hindrance(self) -> str:
        """What keeps the newest checkpoint from being the head."""
        return self._state or "the trainer has written no checkpoint"

    def settle(self) -> None:
        """The trainer has ended: commit what is left, then be done."""
        self._settling = True
        self._task.wake()

    def abandon(self) -> None:
        """Commit nothing more, but for what is being committed at this moment: `done` tells when that is over."""
        self._abandoned = True
        self._task.wake()

    def _pieces(self) -> Iterator[float]:
        while not (self._abandoned or self.superseded or self.fault):
            settling = self._settling  # read before looking: what is written before the end is then seen
            there = self._look()
            if there is None:
                if not self.fault:
                    yield RETRY_AFTER_S
                continue
            waiting = [each for each in there if _mark(each) not in self._stuck]
            if waiting and not (yield from self._try(waiting[-1])):
                if not self.fault:
                    yield RETRY_AFTER_S
                continue
            if waiting:
                self._let_go(waiting)
            if settling and not waiting:
                break
            yield 0.0 if waiting else self._look_every_s

    def _let_go(self, checkpoints: Sequence[LocalCheckpoint]) -> None:
        """Remove what is done with; what a disk does not let go is so all the same."""
        done = {*self._stuck, *map(_mark, checkpoints)}
        for each in checkpoints:
            each.remove()
        self._stuck = done.intersection(map(_mark, self._look() or ()))

    def _look(self) -> Sequence[LocalCheckpoint] | None:
        """What the trainer has written; None: that cannot be seen now, or never, which is a fault then."""
        try:
            return self._run.whole_checkpoints()
        except UnfitCheckpoint as error:
            self.fault, self.hopeless = str(error), True
        except OSError as error:
            self._state = f"the trainer's checkpoints could not be looked at, trying again: {error}"
        return None

    def _try(self, checkpoint: LocalCheckpoint) -> Generator[float, None, bool]:
        """Commit one checkpoint; False: not now, try again."""
        try:
            self._state = f"step {checkpoint.step} is being uploaded"
            manifest = yield from self._upload(checkpoint)
            if self._abandoned:
                return False
            commit(self._store, self._lineage.job, self._lineage.epoch(), manifest, self._nonce)
            self.committed_step = checkpoint.step
            if checkpoint.step >= self._lost_step:
                self.lost = ""
            self._told = False
            self._state = ""
            self.final_committed = manifest.final
            yield 0.0
            self._remove_old(manifest)
            return True
        except Replaced:
            self._state = f"step {checkpoint.step} has been written once more meanwhile, uploading that"
        except WrittenTwice as error:
            self.fault = str(error)
        except UnfitCheckpoint as error:
            self.fault, self.hopeless = str(error), True
        except Altered as error:
            # It would stay so, while one before it may be sound.
            self._let_go([checkpoint])
            self._sending = None
            self._state = self.lost = f"step {checkpoint.step} is lost: {error}"
            self._lost_step = max(self._lost_step, checkpoint.step)
            self._tell("checkpoint_failed", self._state)
        except Superseded:
            self.superseded = True
            return True
        except NotYetAssigned as error:
            self._state = f"step {checkpoint.step} waits for the new leader's orders: {error}"
        except (StoreError, OSError) as error:
            self._state = f"step {checkpoint.step} could not be committed, trying again: {error}"
            if not self._told:  # once until a checkpoint is committed again, not once a step
                self._told = True
                self._tell("checkpoint_failed", self._state)
        return False

    def _remove_old(self, head: Manifest) -> None:
        """What goes wrong here is made up for after the next commit; this one is done."""
        try:
            remove_old(self._store, self._lineage, head, self._kept, self._pins.pinned)
            self._told_of_old = False
        except NotYetAssigned:
            return
        except (StoreError, OSError) as error:
            if not self._told_of_old:
                self._told_of_old = True
                why = f"old checkpoints could not be removed, trying again after the next: {error}"
                self._tell("note", why)

    def _upload(self, checkpoint: LocalCheckpoint) -> Generator[float, None, Manifest]:
        """Upload a checkpoint once: by the second try it may be the head, and must not be touched."""
        manifest = self._sent_whole
        if manifest is None or manifest.step != checkpoint.step:
            if self._sending is None or self._sending.step != checkpoint.step or self._sending.replaced:
                self._sending, self._sent = checkpoint, {}
            try:
                manifest = yield from send(self._store, self._lineage, checkpoint, self._sent)
            except (StoreError, OSError):
                if checkpoint.replaced:
                    raise Replaced from None
                raise
            self._sent_whole, self._has_manifest = manifest, False
        if not self._has_manifest:
            put_manifest(self._store, self._lineage, manifest)
            self._has_manifest = True
        if checkpoint.final and not manifest.final:
            raise WrittenTwice(
                f"the trainer has written step {checkpoint.step} as its last checkpoint after it had written it as "
                "another: it must write each step once; the next generation begins there and can write it as the last"
            )
        return manifest


def _mark(checkpoint: LocalCheckpoint) -> tuple[int, bool]:
    """What tells a run's checkpoints from each other."""
    return checkpoint.step, checkpoint.final


def send(
    store: Store, lineage: Lineage, checkpoint: LocalCheckpoint, sent: dict[str, ManifestFile]
) -> Generator[float, None, Manifest]:
    """Upload a checkpoint's files with their SHA-256, a piece of work for each; what its manifest is to say.

    `sent` is what an earlier try has uploaded, by name: it is gone on with, and added to. Raises Replaced.
    """
    prefix = layout.checkpoint_prefix(lineage.job, checkpoint.step, lineage.generation)
    files = checkpoint.files()
    if (bad := next((file.name for file in files if not is_file_name(file.name)), None)) is not None:
        raise UnfitCheckpoint(
            f"the checkpoint of step {checkpoint.step} holds a file {bad!r}, which cannot be kept under this name: use "
            "letters, digits, '.', '_' and '-', at most 200 in each part, and not manifest.json"
        )
    for file in files:
        if file.name in sent:
            continue
        try:
            digest = file.upload(store, prefix + file.name)
        except (StoreError, OSError) as error:
            if _no_space(error):  # it would stay full
                sent.clear()
                _remove(store, prefix)
            raise
        sent[file.name] = ManifestFile(name=file.name, size_bytes=file.size_bytes, sha256=digest)
        yield 0.0
    if checkpoint.replaced:
        raise Replaced
    kept = tuple(sent[name] for name in sorted(sent))
    return Manifest(step=checkpoint.step, generation=lineage.generation, final=checkpoint.final, files=kept)


def put_manifest(store: Store, lineage: Lineage, manifest: Manifest) -> None:
    """Make a checkpoint whole whose files are in the bucket, also if that was done already."""
    prefix = layout.checkpoint_prefix(lineage.job, manifest.step, lineage.generation)
    body = manifest.model_dump_json(indent=2).encode()
    try:
        store.create(layout.manifest_key(prefix), body)
    except Conflict:
        present = store.get(layout.manifest_key(prefix))
        if present is None or present.body != body:
            raise StoreError(
                f"{store.url}: {prefix} holds another checkpoint of the same step and generation"
            ) from None


def _no_space(error: BaseException | None) -> bool:
    """Whether a disk that is full is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def remove_old(
    store: Store, lineage: Lineage, head: Manifest, kept: int, pinned: Callable[[], Collection[str]]
) -> None:
    """Remove sound checkpoints beyond `kept`, and what is of no use: half uploaded, rejected, or past the head.

    Never the head's, nor one that somebody reads, nor a newer generation's: whoever has been superseded meanwhile
    removes nothing. Raises Superseded or NotYetAssigned.
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
    old = [*useless, *whole[:-kept]]
    if not old:
        return
    held = pinned()
    load_owned_head(store, lineage.job, lineage.epoch(), lineage.generation)  # looking around may have taken its time
    for prefix in old:
        if prefix not in held:
            _remove(store, prefix, pinned)


def _checkpoints(store: Store, job: str) -> Iterator[tuple[str, int, int]]:
    """Prefix, step and generation of everything that is named like a checkpoint, in order."""
    for name in store.prefixes(layout.checkpoints_prefix(job)):
        if (parsed := layout.parse_checkpoint(name)) is not None:
            yield layout.checkpoint_at(job, name), *parsed


def _remove(store: Store, prefix: str, pinned: Callable[[], Collection[str]] = tuple) -> None:
    """Remove a checkpoint's objects: the manifest first, so that half a checkpoint never looks whole.

    A reader claims a checkpoint and then looks whether its manifest is there. Who has found it there has claimed it
    before it was removed here, so its claim is seen now, and the checkpoint stays.
    """
    with contextlib.suppress(StoreError, Conflict):  # what stays now is removed after a later commit
        manifest = store.get(layout.manifest_key(prefix))
        store.delete(layout.manifest_key(prefix))
        if manifest is not None and prefix in pinned():
            store.create(manifest.key, manifest.body)
            return
        for entry in list(store.list(prefix)):
            store.delete(entry.key)


def restore(store: Store, assignment: Assignment, run: Run, nonce: Nonce, tell: Tell) -> Generator[float, None, int]:
    """Bring the checkpoint to resume from into the run directory and return its step; 0: start anew.

    One that is torn or altered is never loaded: the head moves to the one before it, and that is told.
    """
    wanted = assignment.resume
    while wanted is not None:
        for _ in range(FETCHES):
            problem = yield from _fetch(store, wanted, run)
            if problem is None:
                return layout.checkpoint_step(wanted)
            run.forget_resume()
            yield 0.0
        instead = next(_sound_before(store, assignment, wanted), None)
        head = reject(store, assignment.job, assignment.epoch, assignment.generation, wanted, instead, nonce)
        then = f"resuming from step {head.value.step}" if head.value.checkpoint else "starting anew"
        tell("checkpoint_rejected", f"checkpoint {wanted.split('/')[-2]} is not what was committed ({problem}); {then}")
        wanted = head.value.checkpoint
        yield 0.0
    return 0


def _fetch(store: Store, prefix: str, run: Run) -> Generator[float, None, str | None]:
    """Download and verify a checkpoint, a piece of work for each file; says what is wrong with it."""
    manifest = _manifest(store, prefix)
    if manifest is None:
        return "its manifest is missing or unreadable"
    for file in manifest.files:
        yield 0.0
        problem = run.bring(store, prefix + file.name, file)
        if problem is not None:
            return problem
    return None


def _sound_before(store: Store, assignment: Assignment, bad: str) -> Iterator[Manifest]:
    """Manifests of checkpoints before `bad`, newest first, without those that were rejected before, or lack a file.

    A manifest may come late, of a generation that is over: when what it names was removed as half uploaded.
    """
    head = load_owned_head(store, assignment.job, assignment.epoch, assignment.generation).value
    for prefix, _, _ in reversed([found for found in _checkpoints(store, assignment.job) if found[0] < bad]):
        manifest = _manifest(store, prefix)
        if manifest is not None and prefix not in head.rejected:
            sizes = {entry.key: entry.size for entry in store.list(prefix)}
            if all(sizes.get(prefix + file.name) == file.size_bytes for file in manifest.files):
                yield manifest


def _manifest(store: Store, prefix: str) -> Manifest | None:
    try:
        return load_manifest(store, prefix)
    except ValidationError:
        return None
