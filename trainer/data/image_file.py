"""An image file, and whether it still is as it was: cheaply by its stamp, for sure by its content."""

import hashlib
import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

DIGEST_BYTES = 32
"""Of a SHA-256."""


class Stamp(NamedTuple):
    """What changes when a file is written to or another takes its name, even one with the same time of change."""

    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """That of a file with this status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @classmethod
    def of_open(cls, file: BufferedReader) -> "Stamp":
        """That of an open file as it is now."""
        return cls.of(os.fstat(file.fileno()))


NO_FILE = Stamp(0, 0, 0, 0)


@dataclass(frozen=True)
class ImageFile:
    """An image below a directory: its path from there with slashes, its stamp, its class; -1 without."""

    root: Path
    name: str
    stamp: Stamp
    label: int = -1

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.root / self.name


def sha256_of(file: BufferedReader) -> bytes:
    """Of all that is in an open file, which is at its beginning afterwards; raises OSError."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").digest()
    file.seek(0)
    return digest


def is_still(file: BufferedReader, stamp: Stamp, sha256: bytes) -> bool:
    """Whether an open file holds what it held; a new link to it or a mere touch changes the stamp alone."""
    return Stamp.of_open(file) == stamp or sha256_of(file) == sha256
