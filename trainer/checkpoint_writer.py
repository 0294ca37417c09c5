"""Writing checkpoints beside the training loop.

At most one is in flight, and a full disk fails the checkpoint, not the run.
"""

import os
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trainer.checkpoint import Meta, checkpoints_in, directory_name, remove_checkpoint, write_checkpoint
from trainer.errors import CheckpointFailed, Unavailable
from trainer.priority import Do, SpareTime, at_once
from trainer.snapshot import Snapshot
from trainer.state import Counters, TrainState


@dataclass(frozen=True)
class Outcome:
    """How a checkpoint went: `failure` says why there is none."""

    step: int
    seconds: float
    failure: str | None = None


class CheckpointWriter:
    """Takes copies of a state between steps and writes them from a thread of its own.

    stall_s: how long the loop stood still for checkpoints, all in all. newest_step: of the last that was written whole.
    patience_s: how long that thread makes do with what time nobody else wants, before it takes a small share.
    kept: where the newest is to stay, beside `directory`, whatever becomes of that; None: nowhere.
    Raises Unavailable where there can be no such directory.
    """

    def __init__(
        self,
        directory: Path,
        state: TrainState,
        keep_local: int,
        keep_free_bytes: int,
        *,
        patience_s: float = 0.0,
        kept: Path | None = None,
    ) -> None:
        self._directory, self._keep_local, self._keep_free_bytes = directory, keep_local, keep_free_bytes
        self._kept = kept
        self._snapshot = Snapshot(state)
        self._patience_s = patience_s
        self._spare_time = SpareTime(time.monotonic)
        self._thread: threading.Thread | None = None
        self._outcome: Outcome | None = None
        self.stall_s = 0.0
        self.newest_step: int | None = None
        self._written: Counters | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"{directory}: checkpoints cannot be written there: {error.strerror}") from None
        self._sweep()

    @property
    def newest(self) -> Path | None:
        """The last that was written whole, unless that was removed since."""
        return None if self.newest_step is None else self._directory / directory_name(self.newest_step)

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written: the next has to wait, there is no queue of copies."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, meta: Meta) -> None:
        """Copy the state now and begin to write it; waits first if the last one is still being written."""
        begin = time.perf_counter()
        self.wait()
        self._snapshot.take()
        self._spare_time.begin(self._patience_s)
        self._thread = threading.Thread(target=self._write_beside, args=(meta,), name="checkpoint")
        self._thread.start()
        self.stall_s += time.perf_counter() - begin

    def write_last(self, meta: Meta, snapshot: Snapshot, documents: Mapping[str, dict[str, Any]]) -> None:
        """Write the checkpoint that the run ends with, from a snapshot of `copy`; raises CheckpointFailed."""
        self._write(meta, documents, at_once)
        outcome = self.poll()
        if outcome is not None and outcome.failure:
            raise CheckpointFailed(
                f"the last checkpoint, of step {snapshot.step}, could not be written: {outcome.failure}"
            )

    def has_written(self, counters: Counters) -> bool:
        """Whether the last checkpoint is of the state with these counters, and whole; waits until that is known."""
        self.wait()
        return self._written == counters

    def copy(self) -> Snapshot:
        """A copy of the state as it is now, in the buffers that the next checkpoint is written from."""
        self.wait()
        self._snapshot.take()
        return self._snapshot

    def poll(self) -> Outcome | None:
        """How the last checkpoint went, once it is known; each outcome is told once."""
        if self.busy:
            return None
        outcome, self._outcome = self._outcome, None
        return outcome

    def _keep(self, place: Path) -> None:
        """Hard links to the newest checkpoint: it stays to go back to, also when whoever reads it has removed it."""
        if self._kept is None:
            return
        fresh, old = self._kept.with_name(f".{self._kept.name}-new"), self._kept.with_name(f".{self._kept.name}-old")
        for path in (fresh, old):
            shutil.rmtree(path, ignore_errors=True)
        try:
            shutil.copytree(place, fresh, copy_function=_linked)
            if self._kept.exists():
                self._kept.rename(old)
            fresh.rename(self._kept)
        except (OSError, shutil.Error):
            return  # it is whole all the same; what was kept before stays
        shutil.rmtree(old, ignore_errors=True)

    def wait(self) -> None:
        """Return when nothing is being written."""
        if self._thread is not None:
            self._spare_time.hurry()
            self._thread.join()

    def _write_beside(self, meta: Meta) -> None:
        self._spare_time.take()
        self._write(meta, {}, self._spare_time)

    def _write(self, meta: Meta, documents: Mapping[str, dict[str, Any]], do: Do) -> None:
        begin, step, failure = time.perf_counter(), self._snapshot.step, None
        self._written = None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            if lack := self.lack_of_space():
                raise CheckpointFailed(lack)
            if not self._snapshot.is_finite(do):
                raise CheckpointFailed("the weights are not all numbers")
            place = write_checkpoint(self._directory, self._snapshot, meta, documents, do)
            do(partial(self._keep, place))
            self.newest_step, self._written = step, self._snapshot.counters
            do(partial(self._prune, step))
        except OSError as error:
            failure = f"{error.strerror or type(error).__name__}: {self._directory}"
        except (RuntimeError, CheckpointFailed) as error:
            failure = next(iter(str(error).strip().splitlines()), type(error).__name__)
        self._outcome = Outcome(step, time.perf_counter() - begin, failure)

    def lack_of_space(self) -> str:
        """Why a checkpoint would not be written now; empty where nothing is in the way."""
        try:
            needed, free = self._snapshot.size_bytes, shutil.disk_usage(self._directory).free
        except OSError:
            return ""  # who writes it will be told
        if free - needed < self._keep_free_bytes:
            kept = f", and {_mebibytes(self._keep_free_bytes)} are to be kept" if self._keep_free_bytes else ""
            return (
                f"disk full: {_mebibytes(free)} are free on the disk of {self._directory}, it takes "
                f"{_mebibytes(needed)}{kept}"
            )
        return ""

    def _prune(self, newest_step: int) -> None:
        """Remove checkpoints beyond the newest few; those of later steps, of an earlier run, are not touched."""
        steps = checkpoints_in(self._directory)
        older = sorted(step for step in steps if step <= newest_step)
        for step in older[: -self._keep_local]:
            with suppress(OSError):  # the one just written is whole all the same
                remove_checkpoint(steps[step])

    def _sweep(self) -> None:
        """Remove what a killed predecessor left half written, and what it had kept to go back to."""
        for path in [*self._directory.glob(".tmp-*"), *([self._kept] if self._kept else [])]:
            shutil.rmtree(path, ignore_errors=True)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
