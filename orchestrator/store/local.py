"""A store in a directory: for one machine, or several that share a file system with working locks.

An object is a file under its key. Writes go to a temporary file first, so that a reader opens the old object or the new
one and never a torn one, however the writer dies:

- create: `os.link` refuses a name that exists, atomically;
- replace, put, delete: under a lock (`flock`, which the system frees when its process dies), then `os.replace`.

Names that no key can have (`~tmp`, `~locks`) hold temporary files and locks.
"""

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b, md5
from pathlib import Path
from typing import BinaryIO, Literal

from orchestrator.store.disk import arriving, copy, explained, file_sha256, shown, sync_directory, unaltered
from orchestrator.store.keys import check_directory, check_key, split_prefix
from orchestrator.store.protocol import (
    UNCHANGED,
    Conflict,
    Entry,
    Missing,
    Object,
    Progress,
    ReplyLost,
    StoreError,
    StoreUnreachable,
    Unchanged,
)
from orchestrator.store.walk import directories, walk

_STALE_AFTER_S = 3600.0  # no write takes an hour between its temporary file and its end
_SETTLED_AFTER_S = 2.0  # the coarsest time stamp of a file system (FAT)
_PLACING_TRIES = 100
_KNOWN_ETAGS = 10_000

Identity = tuple[int, int, int, int]


class LocalStore:
    """A directory. The etag is the MD5 of the body, as on S3; that of an uploaded file, its identity on disk."""

    def __init__(self, root: Path, now: Callable[[], float] = time.time) -> None:
        """Open or make the store; raises `StoreUnreachable` when the directory cannot be written.

        `now` is the clock of the file system's time stamps: it dates temporary files and unsettled etags.
        """
        self._root = Path(os.path.abspath(root))
        self._temporaries = self._root / "~tmp"
        self._locks = self._root / "~locks"
        self._now = now
        self._known: dict[str, tuple[Identity, str]] = {}
        self._url = self._root.as_uri()
        with explained(f"use the directory {self._root} as a store", StoreUnreachable):
            for directory in (self._root, self._temporaries, self._locks):
                directory.mkdir(parents=True, exist_ok=True)
            self._sweep(_STALE_AFTER_S)
            with self._temporary(b"", durable=False):
                pass  # the directory can be written to

    @property
    def url(self) -> str:
        return self._url

    @property
    def billed(self) -> bool:
        return False

    def get(self, key: str) -> Object | None:
        path = self._path(key)
        with explained(f"read {key} in {self._url}"):
            try:
                with open(path, "rb") as file:
                    status = os.fstat(file.fileno())
                    body = file.read()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._check_root()
                return None
            return Object(key, body, self._remember(key, status, body))

    def get_if_changed(self, key: str, etag: str | None) -> Object | None | Literal[Unchanged.UNCHANGED]:
        path = self._path(key)
        known = self._known.get(key)
        if known is not None and known[1] == etag:
            with explained(f"read {key} in {self._url}"):
                try:
                    if _identity(os.stat(path)) == known[0]:
                        return UNCHANGED
                except (FileNotFoundError, NotADirectoryError):
                    pass  # get() tells whether the object is gone or the whole store
        found = self.get(key)
        return UNCHANGED if found is not None and found.etag == etag else found

    def create(self, key: str, body: bytes) -> str:
        path = self._path(key)
        with explained(f"create {key} in {self._url}"), self._temporary(body, durable=True) as temporary:
            try:
                self._place(path, lambda: os.link(temporary, path))
            except FileExistsError:
                if path.is_dir():
                    raise
                raise Conflict(f"{key} exists") from None
            self._make_durable(path.parent)
        return _hash(body)

    def replace(self, key: str, body: bytes, etag: str) -> str:
        path = self._path(key)
        with explained(f"replace {key} in {self._url}"):
            with self._temporary(body, durable=True) as temporary, self._locked(key):
                self._expect(key, etag)
                os.replace(temporary, path)
            self._make_durable(path.parent)
        return _hash(body)

    def put(self, key: str, body: bytes) -> str:
        path = self._path(key)
        with (
            explained(f"write {key} in {self._url}"),
            self._temporary(body, durable=False) as temporary,
            self._locked(key),
        ):
            self._place(path, lambda: os.replace(temporary, path))
        return _hash(body)

    def delete(self, key: str, etag: str | None = None) -> None:
        path = self._path(key)
        with explained(f"delete {key} in {self._url}"), self._locked(key):
            if etag is not None:
                self._expect(key, etag)
            if not path.is_file():
                self._check_root()
                return
            path.unlink()
            self._make_durable(path.parent)
            self._prune(path.parent)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        directory, beginning = split_prefix(prefix)
        self._check_root()
        for key in self._listed(prefix, walk(self._root, directory, beginning, start_after)):
            with explained(f"list {key} in {self._url}"):
                found = self._size_and_etag(key)
            if found is not None:
                yield Entry(key, *found)

    def prefixes(self, prefix: str) -> Iterator[str]:
        check_directory(prefix)
        self._check_root()
        yield from self._listed(prefix, directories(self._root, prefix))

    def upload(self, path: Path, key: str, progress: Progress | None = None, *, known: str | None = None) -> str:
        target = self._path(key)
        temporary = self._temporary_path()
        with explained(f"upload {shown(path)} as {key} to {self._url}"), open(path, "rb") as source:
            try:
                if _linked(source, temporary):
                    digest = known or file_sha256(temporary)
                    if progress is not None:
                        progress(os.fstat(source.fileno()).st_size)
                else:
                    digest = unaltered(path, _copied(source, temporary, progress), known)
                with self._locked(key):
                    self._place(target, lambda: os.replace(temporary, target))
            finally:
                temporary.unlink(missing_ok=True)  # os.replace leaves it where both were the same file already
            self._make_durable(target.parent)
        return digest

    def download(self, key: str, path: Path, progress: Progress | None = None) -> str:
        origin = self._path(key)
        with explained(f"read {key} in {self._url}"):
            try:
                # what fails on the way to `path` is explained by `arriving`: here only the object itself can be missing
                with open(origin, "rb") as source, arriving(path) as temporary, open(temporary, "wb") as target:
                    return copy(source, target, progress)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._check_root()
                raise Missing(key) from None

    def abort_uploads(self, prefix: str, older_than_s: float) -> int:
        split_prefix(prefix)
        with explained(f"sweep {self._temporaries}"):
            return self._sweep(max(older_than_s, _STALE_AFTER_S))

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _check_root(self) -> None:
        """A store that has gone must not look like an empty one: that would read as 'no job, no instance'."""
        if not self._temporaries.is_dir():
            raise StoreUnreachable(f"The store {self._url} is gone: its directory was removed or unmounted.")

    def _listed(self, prefix: str, names: Iterator[str]) -> Iterator[str]:
        """The same names; what the file system has against one of them is explained, and not what their user raises."""
        while True:
            with explained(f"list {prefix or 'the objects'} in {self._url}"):
                name = next(names, None)
            if name is None:
                return
            yield name

    def _size_and_etag(self, key: str) -> tuple[int, str] | None:
        """Of what is on disk under a key; reads the file only when its etag is not known yet."""
        try:
            status = os.stat(self._root / key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        known = self._known.get(key)
        if known is not None and known[0] == _identity(status):
            return status.st_size, known[1]
        if _is_uploaded(status):
            return status.st_size, _identity_tag(status)
        found = self.get(key)
        return None if found is None else (len(found.body), found.etag)

    def _remember(self, key: str, status: os.stat_result, body: bytes) -> str:
        """The etag of what was read, remembered only once the file is so old that a later one must differ in time.

        An inode number is used again at once, and time stamps are coarse.
        """
        etag = _identity_tag(status) if _is_uploaded(status) else _hash(body)
        if self._now() - max(status.st_mtime, status.st_ctime) > _SETTLED_AFTER_S:
            if len(self._known) >= _KNOWN_ETAGS:
                self._known.clear()
            self._known[key] = (_identity(status), etag)
        return etag

    def _expect(self, key: str, etag: str) -> None:
        found = self._opened_etag(key)
        if found is None:
            self._check_root()
        if found != etag:
            raise Conflict(f"{key} is not what it was")

    def _opened_etag(self, key: str) -> str | None:
        """Of what is under a key now: a shared file system answers a look from memory, and asks for what is opened."""
        try:
            with open(self._root / key, "rb") as file:
                status = os.fstat(file.fileno())
                known = self._known.get(key)
                if known is not None and known[0] == _identity(status):
                    return known[1]
                return _identity_tag(status) if _is_uploaded(status) else self._remember(key, status, file.read())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold the key's lock. There are 256 lock files for all keys: they are never removed, which would be a race."""
        name = blake2b(key.encode(), digest_size=1).hexdigest()
        descriptor = os.open(self._locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _temporary_path(self) -> Path:
        return self._temporaries / secrets.token_hex(12)

    @contextmanager
    def _temporary(self, body: bytes, *, durable: bool) -> Iterator[Path]:
        """A file with this body, to be linked or moved to its place."""
        path = self._temporary_path()
        try:
            with open(path, "xb") as file:
                file.write(body)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _place(self, path: Path, place: Callable[[], None]) -> None:
        """Do it, with the directories it needs. Repeated while a deletion elsewhere prunes them in between."""
        for _ in range(_PLACING_TRIES):
            try:
                place()
                return
            except FileNotFoundError:
                self._check_root()
            try:
                self._make_directories(path.parent)
            except FileNotFoundError:
                continue
        raise StoreError(f"Cannot write {path}: its directory was removed {_PLACING_TRIES} times meanwhile.")

    def _make_directories(self, directory: Path) -> None:
        if directory == self._root or directory.is_dir():
            return
        self._make_directories(directory.parent)
        with suppress(FileExistsError):  # somebody was first, whose directory may be pruned by now
            os.mkdir(directory)
        sync_directory(directory.parent)

    def _make_durable(self, directory: Path) -> None:
        """Make what was done in a directory survive a power failure; when that fails, it is done all the same."""
        with explained(f"be sure that the disk kept the last write in {directory}", ReplyLost):
            sync_directory(directory)

    def _prune(self, directory: Path) -> None:
        """Remove directories that hold nothing any more; they are no part of any key."""
        while directory != self._root:
            try:
                directory.rmdir()
            except OSError:
                return  # not empty, or somebody else did it
            directory = directory.parent

    def _sweep(self, older_than_s: float) -> int:
        """Remove temporary files of writers that died. Their change time counts: an upload keeps its file's age."""
        removed = 0
        for path in self._temporaries.iterdir():
            try:
                if self._now() - path.stat().st_ctime > older_than_s:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue  # its writer, or another sweep, was first
        return removed


def _hash(body: bytes) -> str:
    return md5(body, usedforsecurity=False).hexdigest()


def _identity(status: os.stat_result) -> Identity:
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)


def _is_uploaded(status: os.stat_result) -> bool:
    """Uploaded files are read-only and never change, so that a listing need not read gigabytes to name their etags."""
    return not stat.S_IMODE(status.st_mode) & 0o222


def _identity_tag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _linked(source: BinaryIO, target: Path) -> bool:
    """Whether an open file could be hard-linked to `target` and made read-only: not across file systems or owners.

    It is the open file that is linked, whatever has its name by now. Another user's is left alone, also by root: who
    owns a file may write to it again. Only Linux can link an open file.
    """
    descriptor = source.fileno()
    os.fsync(descriptor)
    if os.fstat(descriptor).st_uid != os.geteuid():
        return False
    try:
        # with a descriptor of a directory, though none is needed, os.link goes on from the first name to the file
        os.link(f"/proc/self/fd/{descriptor}", target, src_dir_fd=descriptor)
        os.chmod(target, 0o444)
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True


def _copied(source: BinaryIO, target: Path, progress: Progress | None) -> str:
    with open(target, "xb") as writer:
        digest = copy(source, writer, progress)
        writer.flush()
        os.fsync(writer.fileno())
    target.chmod(0o444)
    return digest
