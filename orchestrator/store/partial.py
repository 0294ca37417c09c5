"""A file that arrives in pieces, front to back, and goes on after an interruption where it stood.

What has arrived lies beside the file under a name that says of what it is a part: the same version of the same object,
fetched to the same place, since the machine was last started (after a power failure nobody knows what the disk kept).
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from orchestrator.store.disk import explained
from orchestrator.store.owner import this_host


@contextmanager
def continued(path: Path, identity: str) -> Iterator[BinaryIO]:
    """Give a file with what is there of `identity`, to be read and added to; at the end it takes the place of `path`.

    After an error it stays, to go on from, unless the disk is at fault: a full one should not stay full. Whoever
    fetches the same at the same time gets a file of their own.
    """
    place = _short(path.name)
    wanted = path.with_name(f".{place}-{_short(f'{identity} {this_host()}')}.part")
    with explained(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file, arriving = _opened(wanted)
        with file:
            try:
                _remove_others(path.parent, place, arriving)
                yield file
                file.flush()
                os.replace(arriving, path)
            except BaseException as error:
                if isinstance(error, OSError) or os.fstat(file.fileno()).st_size == 0:
                    arriving.unlink(missing_ok=True)
                raise


def _short(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()


def _opened(wanted: Path) -> tuple[BinaryIO, Path]:
    """The file of this name, locked; or a new one, when somebody else has it."""
    while True:
        file = open(os.open(wanted, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")  # noqa: SIM115
        if _locked(file):
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(wanted), os.fstat(file.fileno())):
                    return file, wanted
            file.close()  # whoever had it has finished meanwhile, and it is at its place
        else:
            file.close()
            wanted = wanted.with_name(f"{wanted.name.partition('-')[0]}-{secrets.token_hex(6)}.part")


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _remove_others(directory: Path, place: str, but: Path) -> None:
    """Remove what nobody will go on with: parts of other versions of the same file, whose writers are gone."""
    for left in directory.glob(f".{place}-*.part"):
        if left != but:
            with suppress(OSError), open(left, "r+b") as file:
                if _locked(file):
                    left.unlink()
