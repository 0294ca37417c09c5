"""What was decoded once is kept: uint8 arrays that later starts map into memory, and what is known of them."""

import fcntl
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.data.dataset import Array

FORMAT = 1
"""Of what is kept; another begins anew."""

LARGEST_SHARE_OF_FREE_DISK = 0.5


class About(BaseModel):
    """What was found out when the images were decoded; beside arrays it is written last, so they are whole then.

    unreadable: by name, the files that cannot be read as images, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    class_names: list[str]
    mean: list[float]
    std: list[float]
    unreadable: dict[str, str] = {}


class Shelf:
    """A place on disk for one data set, shared by all ranks of a machine and all runs of a user."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def about(self) -> About | None:
        """What is known; None when nothing is, or not for sure."""
        try:
            return About.model_validate_json((self.directory / "about.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def array(self, name: str) -> Array | None:
        """An array, mapped into memory; writing to it changes no file. None when it is not there whole."""
        try:
            array: Array = np.load(self.directory / f"{name}.npy", mmap_mode="c")
        except (OSError, ValueError, EOFError):
            return None
        return array

    @contextmanager
    def lock(self) -> Iterator[str | None]:
        """Be the only one who puts things here; others wait. Gives the reason why nothing can be kept, if so.

        The kernel opens the lock again when its holder dies. A directory that cannot be written needs none.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = open(self.directory / "lock", "a")  # noqa: SIM115 - closed below
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            yield f"{self.directory} cannot be written: {error.strerror}"
            return
        with lock:
            yield None

    def lack_of_room(self, size_bytes: int) -> str | None:
        """Why so many bytes cannot be kept, if so: they would take most of what is free."""
        free_bytes = shutil.disk_usage(self.directory).free
        if size_bytes <= LARGEST_SHARE_OF_FREE_DISK * free_bytes:
            return None
        return f"{size_bytes / 1e9:.1f} GB are much for the {free_bytes / 1e9:.1f} GB that are free at {self.directory}"

    def keep_about(self, about: About) -> None:
        """Write it down; it appears by rename."""
        with self.appearing("about.json") as file:
            file.write(about.model_dump_json(indent=1).encode())

    def keep_array(self, name: str, blocks: Iterable[Array], most: int, shape: tuple[int, ...], dtype: Any) -> int:
        """Write blocks of rows of this shape as one array, `most` rows or fewer; returns how many there are."""
        rows = 0
        with self.appearing(f"{name}.npy") as file:
            file.write(_npy_header((most, *shape), dtype))
            for block in blocks:
                file.write(np.ascontiguousarray(block, dtype).data)
                rows += len(block)
            file.seek(0)
            file.write(_npy_header((rows, *shape), dtype))
        return rows

    @contextmanager
    def appearing(self, name: str) -> Iterator[io.BufferedWriter]:
        """A file to be written; it appears by rename, whole."""
        part = self.directory / f"{name}.part"
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.directory / name)


def shelf_named(data_dir: Path, name: str) -> Shelf:
    """The shelf of a data set among those of a directory of data sets."""
    return Shelf(data_dir / "decoded" / f"{name}-v{FORMAT}")


def data_directory(setting: str | None) -> Path:
    """Where data sets are: as set, or in a cache directory of the user."""
    if setting is not None:
        return Path(setting).expanduser()
    return user_cache_path("elastic") / "datasets"


def _npy_header(shape: tuple[int, ...], dtype: Any) -> bytes:
    """The header of a .npy file; as long for any number of rows, since numpy leaves room for it to grow."""
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()
