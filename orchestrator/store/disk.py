"""Files that appear whole, and what an operating system's error means to a person."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO

from orchestrator.store.protocol import Altered, Progress, StoreError

_CHUNK_BYTES = 4 * 1024**2

_MEANING: dict[int, str] = {
    errno.ENOSPC: "the disk is full: free some space, or choose a store on another disk",
    errno.EDQUOT: "the disk quota is used up: free some space, or choose a store on another disk",
    errno.EACCES: "this user may not: check who owns the directory and its mode",
    errno.EPERM: "this user may not: check who owns the directory and its mode",
    errno.EROFS: "the file system is read-only: choose a store elsewhere",
    errno.ENOENT: "there is no such file or directory",
    errno.ENOTDIR: "a file is in the way: no key may be a directory of another",
    errno.EISDIR: "it is a directory",
    errno.EEXIST: "a file is in the way: no key may be a directory of another",
    errno.EMFILE: "this process has too many open files: raise its limit (ulimit -n)",
    errno.ENAMETOOLONG: "the name is too long for the file system",
}


@contextmanager
def explained(doing: str, kind: type[StoreError] = StoreError) -> Iterator[None]:
    """Turn an `OSError` into the store's error: "Cannot <doing>: <what it means>."."""
    try:
        yield
    except OSError as error:
        meaning = _MEANING.get(error.errno or 0, error.strerror or str(error))
        raise kind(f"Cannot {doing}: {meaning}.") from error


@contextmanager
def arriving(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the place of `path` at the end, or goes on an error.

    It is short whatever the name is: that may be as long as the file system takes.
    """
    temporary = path.with_name(f".{secrets.token_hex(6)}.part")
    with explained(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def shown(path: Path) -> str:
    """A path for a person: of a file that is handed on as it is open, the name that it has now."""
    if path.parent != Path("/proc/self/fd"):
        return str(path)
    try:
        return os.readlink(path)
    except OSError:
        return str(path)


def copy(source: BinaryIO, target: BinaryIO, progress: Progress | None) -> str:
    """Copy all that is left of one open file to another; return its SHA-256."""
    digest = sha256()
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        digest.update(chunk)
        if progress is not None:
            progress(len(chunk))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def unaltered(path: Path, digest: str, known: str | None) -> str:
    """The SHA-256 that a file turned out to have. Raises Altered if it was known to be another."""
    if known is not None and digest != known:
        raise Altered(
            f"{shown(path)} has been altered since it was written: its SHA-256 is {digest[:16]}..., and was "
            f"{known[:16]}...; look after this machine's disk."
        )
    return digest


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power failure. One that was removed meanwhile holds none."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
