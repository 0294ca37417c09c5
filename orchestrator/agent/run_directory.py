"""The run directory: the contract between the agent and any trainer.

| piece | who writes | meaning |
|---|---|---|
| `config.json` | agent | the resolved training section of job.yaml; with a `command` its `config` |
| `resume/` | agent | the checkpoint to start from; absent on a first start |
| `checkpoints/step-<12 digits>/` | trainer | a whole checkpoint; it appears by rename, so what is there is complete |
| the files in one | trainer | any, in directories too, but for links and a `manifest.json`; `resume/` has the same |
| `.../trainer-sha256.json` in one | elastic's | the SHA-256 of each other file, as it was meant to be; it is not kept |
| `.../result.json` in one | trainer | it is the run's last; of every step there is one, so not of a step of before |
| `progress.jsonl` | trainer | a line per `step`; before the first, an `activity` every few seconds; `note`s |
| the same on other nodes | trainer | if it likes, a line per `step` of its first rank there, with no losses |
| SIGTERM | agent | finish the step, write a checkpoint, exit 75 |
| SIGUSR1 | agent | print the stacks of all threads to standard error and go on; SIGKILL follows, for it stands still |
| exit 0 / 75 | trainer | finished / drained, resume me |
| exit 2 / 4 / other | trainer | cannot be done as asked / would end in the same way again / failed |
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter, ValidationError

from orchestrator.agent import plain_files
from orchestrator.agent.equipment import UnfitCheckpoint
from orchestrator.jobs.head import ManifestFile
from orchestrator.jobs.instances import TrainerProgress
from orchestrator.store.disk import file_sha256
from orchestrator.store.protocol import Missing, Store

FINISHED = 0
DRAINED = 75
BAD_INPUT = 2
"""What was asked for cannot be done, as far as the trainer can tell."""
HOPELESS = 4
"""Training went wrong in a way that it would again from the same checkpoint."""
_RUN = "run-g"
_STEP = re.compile(r"step-(\d{12})")
_DIGESTS = "trainer-sha256.json"
_Digests = TypeAdapter(dict[str, Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]])
_LONGEST_DIGESTS = 4 * 1024**2
_LONGEST_ACTIVITY = 300
_LONGEST_NOTE = 500
_LONGEST_STRANGE = 80
LOOK_BYTES = 4 * 1024**2
"""How much of progress.jsonl is taken in at one look: a program may write as much as its disk holds."""


@dataclass(frozen=True)
class LocalFile:
    """A file that is there whole, or one that only grows."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def read(self, offset: int, limit_bytes: int) -> bytes:
        """What lies there from an offset on; nothing if there is no such file yet."""
        try:
            with plain_files.open_plain(self.path) as file:
                file.seek(offset)
                return file.read(limit_bytes)
        except FileNotFoundError:
            return b""


@dataclass(frozen=True)
class LocalCheckpoint:
    """A whole checkpoint in the run directory."""

    path: Path
    step: int
    final: bool
    """Whether it is the last of the run: it holds the result."""
    identity: "Identity"

    @classmethod
    def at(cls, parent: Path, name: str, descriptor: int) -> "LocalCheckpoint":
        """What an open directory, `parent`, holds under a name. Raises OSError."""
        identity, final = Identity.of(name, descriptor), False
        with contextlib.suppress(OSError), plain_files.directory(parent, name) as own:
            final = plain_files.is_plain("result.json", own)
        return cls(parent / name, int(name.removeprefix("step-")), final, identity)

    @property
    def replaced(self) -> bool:
        """Whether another directory is in its place now. Raises OSError."""
        run, *above, name = self._place
        try:
            with plain_files.directory(run, *above) as descriptor:
                return Identity.of(name, descriptor) != self.identity
        except FileNotFoundError:
            return False

    def files(self) -> list["FileOfCheckpoint"]:
        """Its files to be kept, in order. Raises UnfitCheckpoint, OSError."""
        try:
            with plain_files.directory(*self._place) as descriptor:
                found = [FileOfCheckpoint(self.path, names) for names in plain_files.files_below(descriptor)]
        except NotADirectoryError:
            raise UnfitCheckpoint(
                f"{self.path.name} is reached by a link, or a file: write checkpoints as directories into the run "
                "directory itself"
            ) from None
        except plain_files.NotPlain as error:
            raise UnfitCheckpoint(
                f"{self.path.name} holds {error.name}, which is neither a file nor a directory, or lies too deep: "
                "write what is to be kept into the checkpoint itself"
            ) from None
        if not found:
            raise UnfitCheckpoint(
                f"{self.path.name} is empty: write a checkpoint's files into a directory of another name beside it, "
                "and rename that once they are whole"
            )
        found.sort(key=lambda file: file.names)
        digests = self._digests(found)
        return [replace(file, sha256=digests[file.name]) for file in found if file.name in digests] or found

    def _digests(self, found: Sequence["FileOfCheckpoint"]) -> dict[str, str]:
        """What the trainer says of all its files; nothing if it does not, or if its file means something else."""
        own = next((file for file in found if file.name == _DIGESTS), None)
        if own is None:
            return {}
        try:
            told = _Digests.validate_json(own.read(_LONGEST_DIGESTS))
        except ValidationError:
            return {}
        return told if told.keys() == {file.name for file in found if file is not own} else {}

    def remove(self) -> None:
        """Free the disk. One that has replaced it stays."""
        run, *above, name = self._place
        try:
            with plain_files.directory(run, *above) as descriptor:
                if Identity.of(name, descriptor).may_be(self.identity):
                    plain_files.remove(name, descriptor)
        except OSError:
            return

    @property
    def _place(self) -> tuple[Path, str, str]:
        """The run directory, and the names that lead on from there."""
        return self.path.parent.parent, self.path.parent.name, self.path.name


@dataclass(frozen=True)
class Identity:
    """What tells a directory from another that is there under the same name later."""

    inode: int
    changed_ns: int

    @classmethod
    def of(cls, name: str, parent: int | None = None) -> "Identity":
        """Of what an open directory holds under a name. Raises OSError."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        return cls(status.st_ino, status.st_mtime_ns)

    def may_be(self, other: "Identity") -> bool:
        """Whether it may be the same all the same: a file may be added, and FUSE may count inodes anew."""
        return self.inode == other.inode or self.changed_ns == other.changed_ns


@dataclass(frozen=True)
class FileOfCheckpoint:
    """A file at any depth in a checkpoint: a plain one, reached by no link, whenever it is looked at."""

    checkpoint: Path
    names: tuple[str, ...]
    """From the checkpoint's directory on."""
    sha256: str | None = None
    """What it was meant to have, by who wrote it."""

    @property
    def name(self) -> str:
        """The same with slashes."""
        return "/".join(self.names)

    @property
    def path(self) -> Path:
        return self.checkpoint.joinpath(*self.names)

    @property
    def size_bytes(self) -> int:
        with plain_files.opened(self._run, *self._names_in_run) as (_, status):
            return status.st_size

    def upload(self, store: Store, key: str) -> str:
        """Put it under a key; returns its SHA-256. Raises StoreError, OSError."""
        with plain_files.opened(self._run, *self._names_in_run) as (path, _):
            return store.upload(path, key, known=self.sha256)

    def read(self, limit_bytes: int) -> bytes:
        """Its beginning. Raises OSError."""
        with plain_files.opened(self._run, *self._names_in_run) as (path, _), open(path, "rb") as file:
            return file.read(limit_bytes)

    @property
    def _run(self) -> Path:
        return self.checkpoint.parent.parent

    @property
    def _names_in_run(self) -> tuple[str, ...]:
        return self.checkpoint.parent.name, self.checkpoint.name, *self.names


class RunDirectory:
    """One generation's run directory on this instance."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = ProgressReader(self.progress)
        self._told_of_strange = False

    @classmethod
    def of(cls, work_dir: Path, generation: int) -> "RunDirectory":
        """Where a generation works within an instance's directory."""
        return cls(work_dir / f"{_RUN}{generation:06d}")

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def resume(self) -> Path:
        return self.path / "resume"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def progress(self) -> Path:
        return self.path / "progress.jsonl"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Make it anew: whatever an earlier try left is removed, and so are the run directories of generations before.

        One generation after the other works on an instance, and what lies in the directory of one that has ended was
        committed or given up.
        """
        for path in [self.path, self._container_logs, *self.path.parent.glob(f"{_RUN}*")]:
            shutil.rmtree(path, ignore_errors=True)
        self.checkpoints.mkdir(parents=True)
        self.logs.mkdir()
        self.config.write_text(json.dumps(config, indent=2))

    def whole_checkpoints(self) -> list[LocalCheckpoint]:
        """What the trainer has finished writing, oldest first. Raises UnfitCheckpoint, OSError."""
        try:
            with plain_files.directory(self.path, self.checkpoints.name) as descriptor:
                return list(self._checkpoints_in(descriptor))
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise UnfitCheckpoint(
                "checkpoints in the run directory is a link or a file: leave the directory as it was there, and write "
                "checkpoints into it"
            ) from None

    def _checkpoints_in(self, descriptor: int) -> Iterator[LocalCheckpoint]:
        for name in sorted(name for name in os.listdir(descriptor) if _STEP.fullmatch(name)):
            with contextlib.suppress(FileNotFoundError):  # it is being replaced
                yield LocalCheckpoint.at(self.checkpoints, name, descriptor)

    def bring(self, store: Store, key: str, file: ManifestFile) -> str | None:
        """Have a file in `resume/` as the manifest says; what is wrong with what came, or None."""
        path = self.resume.joinpath(*file.name.split("/"))
        if path.exists() and file_sha256(path) == file.sha256:
            return None  # of a try that was interrupted later
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            digest = store.download(key, path)
        except Missing:
            return f"{file.name} is missing"
        size_bytes = path.stat().st_size
        if size_bytes != file.size_bytes:
            return f"{file.name} has {size_bytes} bytes instead of {file.size_bytes}"
        return None if digest == file.sha256 else f"{file.name} has another SHA-256 than its manifest says"

    def forget_resume(self) -> None:
        """Remove whatever is in `resume/`."""
        shutil.rmtree(self.resume, ignore_errors=True)

    def new_lines(self) -> Iterator[dict[str, Any]]:
        """The progress lines that have been completed since the last call; that one is no JSON is noted once."""
        yield from self._lines.lines()
        if self._lines.strange and not self._told_of_strange:
            self._told_of_strange = True
            yield {"note": f"a line of progress.jsonl is no JSON object and is passed over: {self._lines.strange}"}

    def rank_logs(self, local_rank: int) -> list[LocalFile]:
        """What a rank has printed: where torchrun puts it, or what the agent keeps of a rank in a container."""
        if self._container_logs.is_dir():
            found = self._container_logs.glob(f"{local_rank}/std*.log")
        else:
            found = self.logs.glob(f"*/attempt_0/{local_rank}/std*.log")
        return [LocalFile(path) for path in sorted(found)]

    def keep_container_logs(self) -> None:
        """The ranks of this generation are containers: what they print is read where the agent writes it, only there.

        That is beside the run directory, for a container could put links into that, and the agent may be root. To be
        called before the first of them is there. A disk that is full now is told of when there is something to write.
        """
        with contextlib.suppress(OSError):
            self._container_logs.mkdir(exist_ok=True)

    def container_logs(self, local_rank: int) -> Path:
        """The directory for what a rank prints in a container."""
        directory = self._container_logs / str(local_rank)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    @property
    def _container_logs(self) -> Path:
        return self.path.with_name(f"{self.path.name}.logs")

    @property
    def progress_log(self) -> LocalFile:
        """The progress lines as they were written."""
        return LocalFile(self.progress)


class ProgressReader:
    """Follows progress.jsonl: whole lines as they come, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._within_long = False
        """Whether the next byte is of a line whose beginning was passed over."""
        self.strange = ""
        """The beginning of the last line that was no JSON object, but for empty ones."""

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines that have been completed since the last call; what is not JSON is passed over.

        At most `LOOK_BYTES` of them: the rest comes with the next call. A line that is longer is passed over. What
        cannot be read now comes with a later call.
        """
        try:
            with plain_files.open_plain(self._path) as file:
                file.seek(self._offset)
                data = file.read(LOOK_BYTES)
        except OSError:  # there is none yet, or too many files are open, say
            return
        whole = data[: data.rfind(b"\n") + 1]
        if not whole and len(data) == LOOK_BYTES:
            self._offset += len(data)
            self._within_long = True
            self._note_strange(data[: 4 * _LONGEST_STRANGE])
            return
        self._offset += len(whole)
        for line in whole.splitlines():
            if self._within_long:
                self._within_long = False
                continue
            try:
                parsed = json.loads(line)
            except (ValueError, RecursionError):
                parsed = None
            if isinstance(parsed, dict):
                yield parsed
            elif line.strip():
                self._note_strange(line)

    def _note_strange(self, line: bytes) -> None:
        self.strange = line.decode("utf-8", "replace")[:_LONGEST_STRANGE]


def as_progress(line: Mapping[str, Any]) -> TrainerProgress | None:
    """A report of a step, or None if the line is something else (a note, an activity).

    Only the step is asked for: a word of the report that is not what elastic shows under its name is left out.
    """
    if "note" in line:
        return None
    try:
        return TrainerProgress.model_validate(line)
    except ValidationError as error:
        strange = {problem["loc"][0] for problem in error.errors(include_url=False)}
        if "step" in strange:
            return None
        return TrainerProgress.model_validate({name: value for name, value in line.items() if name not in strange})


def as_activity(line: Mapping[str, Any]) -> str | None:
    """What a trainer that has made no step yet says that it does: looking at a large data set, say."""
    activity = line.get("activity")
    return printable(activity)[:_LONGEST_ACTIVITY] if isinstance(activity, str) else None


def as_note(line: Mapping[str, Any]) -> str | None:
    """What a trainer says to whoever reads the job's events."""
    note = line.get("note")
    return printable(note)[:_LONGEST_NOTE] if isinstance(note, str) else None


def printable(text: str) -> str:
    """Text without what cannot be written as UTF-8: half characters of JSON's escapes and of file names."""
    return text.encode("utf-8", "replace").decode()
