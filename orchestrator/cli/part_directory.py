"""Where a fetch puts what is not whole yet: beside its result, kept when it was broken off, gone otherwise."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.store.protocol import StoreError


@contextlib.contextmanager
def part_directory(directory: Path, job: str, tell: Callable[[str], None]) -> Iterator[Path]:
    """A directory for one fetch at a time. The same command goes on from what one that was broken off has left there.

    Raises UsageError while another fetch of the job writes into the same folder.
    """
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f".fetch-{job}"
    part.mkdir(exist_ok=True)
    with _alone(part):
        try:
            yield part
        except (StoreError, KeyboardInterrupt, SystemExit):
            if any(path.is_file() and path.stat().st_size for path in part.rglob("*")):
                tell(f"what has come is kept in {part}: the same command goes on from there")
            else:
                shutil.rmtree(part)
            raise
        except BaseException:
            shutil.rmtree(part)
            raise
        shutil.rmtree(part)


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Hold a directory's lock, which ends with this process however it ends."""
    descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another elastic fetch is writing into {part.parent}: wait for it, or name another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)
