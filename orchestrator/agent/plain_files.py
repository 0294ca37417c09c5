"""Files that a program has written, opened as what they are: a link or a pipe is none of them.

A program in a container may write into its run directory whatever it likes, at any time, and the agent may be root. A
link would lead the agent out of the container, and a pipe let it wait for ever. So a path is walked from the run
directory on, one open directory after the other, and no link is followed on the way; what was opened is handed on as it
is open, so that no other file can take its place.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

DEEPEST = 32
"""Directories within one another. Each is an open file while it is looked through."""

_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_SUCH = (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP)
"""What opening a link, a socket, or a device without a driver comes to."""
_OPEN_FILES = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else Path("/dev/fd")


class NotPlain(Exception):
    """Something is neither a file nor a directory, or a directory is too deep; `name` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is neither a file nor a directory")
        self.name = name


def open_plain(path: Path) -> BinaryIO:
    """Open a file to be read. Raises FileNotFoundError, also of what is no plain file."""
    return os.fdopen(_plain(str(path), None), "rb")


@contextmanager
def directory(path: Path, *names: str) -> Iterator[int]:
    """A descriptor of the directory that `names` lead to from `path` on. Raises OSError: NotADirectoryError of a link.

    Of `path` itself, whose parents are the agent's, only the last name must not be a link.
    """
    descriptor = _directory(str(path), None)
    try:
        for name in names:
            below = _directory(name, descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened(path: Path, *names: str) -> Iterator[tuple[Path, os.stat_result]]:
    """The plain file that `names` lead to from `path` on: a name for it as it is open now, and its status.

    Whoever opens that name gets this very file, whatever has taken its place meanwhile. Raises OSError.
    """
    *directories, last = names
    with directory(path, *directories) as parent:
        descriptor = _plain(last, parent)
    try:
        yield _OPEN_FILES / str(descriptor), os.fstat(descriptor)
    finally:
        os.close(descriptor)


def is_plain(name: str, parent: int) -> bool:
    """Whether an open directory holds a plain file of this name."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False


def files_below(parent: int, above: Sequence[str] = ()) -> Iterator[tuple[str, ...]]:
    """All files in an open directory, at any depth, by the names that lead there. Raises NotPlain, OSError."""
    for name in sorted(os.listdir(parent)):
        names = (*above, name)
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            yield names
            continue
        if not stat.S_ISDIR(mode) or len(names) > DEEPEST:
            raise NotPlain("/".join(names))
        descriptor = _directory(name, parent)
        try:
            yield from files_below(descriptor, names)
        finally:
            os.close(descriptor)


def remove(name: str, parent: int, depth: int = 0) -> None:
    """Remove what an open directory holds under a name, with all that is in it. What cannot be removed stays."""
    with suppress(OSError):
        try:
            descriptor = _directory(name, parent)
        except NotADirectoryError:
            os.unlink(name, dir_fd=parent)
            return
        try:
            if depth < DEEPEST:
                for each in os.listdir(descriptor):
                    remove(each, descriptor, depth + 1)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=parent)


def _directory(name: str, parent: int | None) -> int:
    try:
        return os.open(name, _NO_LINK | os.O_DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.ELOOP:  # what some systems say of a link, where Linux has ENOTDIR
            raise NotADirectoryError(errno.ENOTDIR, "is a link", name) from error
        raise


def _plain(name: str, parent: int | None) -> int:
    try:
        descriptor = os.open(name, _NO_LINK, dir_fd=parent)
    except OSError as error:
        if error.errno in _NO_SUCH:
            raise FileNotFoundError(errno.ENOENT, "is no plain file", name) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "is no plain file", name)
    return descriptor
