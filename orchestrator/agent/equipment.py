"""What the agent's logic takes from the machine that it runs on; `machine` has the real one, the simulator another.

Nothing here waits, but for what is called by work in the background: `Images.localized`, `Run.prepare` and `bring`,
and what a checkpoint's files do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from orchestrator.agent.background import Background
from orchestrator.agent.sampling import Sampler
from orchestrator.jobs.head import ManifestFile
from orchestrator.jobs.instances import LOOPBACK, Assignment, TrainerExit
from orchestrator.store.protocol import Store


@dataclass(frozen=True)
class Place:
    """What this instance is and has."""

    instance: str
    job: str
    workers: int
    cores: int
    gpus: tuple[int, ...]
    idle_exit_s: float
    address: str = LOOPBACK
    """Where the other instances of a generation reach it."""
    instance_id: str = ""
    """What its provider calls the machine, if it has a provider."""
    allowance_s: float | None = None
    """How long the instance may live; an assignment may say otherwise later."""


class LogFile(Protocol):
    """A file that only grows. Two of the same file are equal, and hash the same."""

    def read(self, offset: int, limit_bytes: int) -> bytes:
        """What lies there from an offset on; nothing if there is nothing, or no such file yet."""
        ...


class UnfitCheckpoint(Exception):
    """A checkpoint that cannot be kept as it is, nor any that is written in the same way."""


class CheckpointFile(Protocol):
    """A file of a checkpoint that a trainer has written. It never changes."""

    @property
    def name(self) -> str:
        """From the checkpoint's directory on, with slashes."""
        ...

    @property
    def size_bytes(self) -> int: ...

    def upload(self, store: Store, key: str) -> str:
        """Put it under a key; returns its SHA-256. Raises StoreError or OSError."""
        ...


class LocalCheckpoint(Protocol):
    """A whole checkpoint in a run directory."""

    @property
    def step(self) -> int: ...

    @property
    def final(self) -> bool:
        """Whether it is the last of the run: it holds the result."""
        ...

    @property
    def replaced(self) -> bool:
        """Whether the trainer has written this step once more since: what has been read of it may be of both.

        Raises OSError.
        """
        ...

    def files(self) -> Sequence[CheckpointFile]:
        """Its files to be kept, in order. Raises UnfitCheckpoint, OSError."""
        ...

    def remove(self) -> None:
        """It has been committed, or a newer one has. One that has replaced it stays."""
        ...


class Run(Protocol):
    """A generation's run directory (see `run_directory` for what lies in it)."""

    @property
    def path(self) -> Path:
        """Where it is: names it, also where there is no disk."""
        ...

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Make it anew, with what the trainer is to do. Raises OSError."""
        ...

    def bring(self, store: Store, key: str, file: ManifestFile) -> str | None:
        """Have a file of the checkpoint to resume from; says what is wrong with what came. Raises StoreError, OSError.

        What is there already, and right, is not fetched again.
        """
        ...

    def forget_resume(self) -> None:
        """Nothing of a checkpoint to resume from is to be left."""
        ...

    def whole_checkpoints(self) -> Sequence[LocalCheckpoint]:
        """What the trainer has finished writing, oldest first. Raises UnfitCheckpoint, OSError."""
        ...

    def new_lines(self) -> Iterator[Mapping[str, Any]]:
        """The progress lines that have been completed since the last call."""
        ...

    def rank_logs(self, local_rank: int) -> Sequence[LogFile]:
        """What a rank has printed."""
        ...

    @property
    def progress_log(self) -> LogFile:
        """The progress lines as they were written."""
        ...


class Workers(Protocol):
    """The launcher and its ranks. Made while there is no work yet; started once."""

    @property
    def warm(self) -> bool:
        """Whether ranks can start at once; also true of one that has died, for starting it tells why."""
        ...

    @property
    def pids(self) -> Sequence[int]:
        """The processes that the ranks are, or are below, while they live."""
        ...

    @property
    def activity(self) -> str:
        """What takes long before ranks can start, as pulling an image does; '' when nothing does."""
        ...

    @property
    def image(self) -> str:
        """The container image of the ranks, by its digest, once it is there; '' where they are processes."""
        ...

    @property
    def log(self) -> LogFile:
        """What the launcher itself prints."""
        ...

    def start(self, run: Run, assignment: Assignment, *, own_address: str, gpus: tuple[int, ...]) -> None:
        """Begin to train."""
        ...

    def ask_to_drain(self, *, again: bool = False) -> None:
        """Have the ranks checkpoint and end: those that were not asked before, with `again` all of them."""
        ...

    def dump_stacks(self) -> None:
        """Have every rank print where its threads are. Only before `kill`: who does not know the signal ends by it."""
        ...

    def kill(self) -> None:
        """Begin to end launcher, ranks, and all that they have started; `gone` tells when that is so."""
        ...

    def gone(self) -> bool:
        """After `kill`: whether nothing is left; what is there all the same is killed again."""
        ...

    def poll(self, step: int | None) -> TrainerExit | None:
        """How they ended, or None while they run. `step`: the last that they reported."""
        ...


@dataclass(frozen=True)
class Asker:
    """Who wants a job's images, and what it is to hear of them."""

    job: str
    """Names the job among those of all stores."""
    doing: Callable[[str], None]
    """Told often: what is being done, or '' when it is done."""
    tell: Callable[[str], None]
    """Told once: what a person should read later."""
    ending: Event
    """Set when nobody waits for them any more."""
    came: Callable[[], None] = lambda: None
    """Told whenever more files are there."""


class Images(Protocol):
    """The user's own images on their way from a bucket to this machine (`images.Bringing`)."""

    def localized(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """The trainer's config with every s3:// folder as a local one. Raises BadFolder, StoreError, Interrupted."""
        ...


class Equipment(Protocol):
    """A machine."""

    @property
    def background(self) -> Background:
        """Where slow work is done."""
        ...

    @property
    def look_every_s(self) -> float:
        """How often there may be news that nobody announces, of workers that start or are to end."""
        ...

    @property
    def glance_every_s(self) -> float:
        """The same of workers that train, and of their checkpoints: each look takes a moment from the training."""
        ...

    def now(self) -> datetime:
        """What this machine's clock says; it may be wrong, and jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since whenever; they only ever grow."""
        ...

    def age_s(self) -> float:
        """How long the instance exists: what is paid for."""
        ...

    def launcher(self) -> Workers:
        """A launcher that begins to get ready for work."""
        ...

    def run_directory(self, generation: int) -> Run:
        """Where a generation's trainer works; nothing is made yet."""
        ...

    def images(self, asker: Asker) -> Images:
        """Who brings a job's images here."""
        ...

    def sampler(self, pids: Callable[[], Sequence[int]]) -> Sampler:
        """How busy these processes, and all below them, keep the machine."""
        ...

    def free_port(self) -> int:
        """A port that nobody listens on now, for torch's rendezvous of several instances."""
        ...
