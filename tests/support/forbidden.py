"""A directory that this process may not enter, also where the tests run as root, whom no mode keeps out."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION_3 = 0x20080522
_BEYOND_MODES = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: see capabilities(7)."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    """The first half: what is effective in this thread, and what it may make so."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def no_entry(directory: Path) -> Iterator[None]:
    """Until it is left, this thread may not look into the directory, nor at what is below it; root as any owner."""
    directory.chmod(0)
    try:
        if os.geteuid() == 0:
            with _as_modes_say():
                yield
        else:
            yield
    finally:
        directory.chmod(0o700)


@contextmanager
def _as_modes_say() -> Iterator[None]:
    """Root in this thread keeps what it owns, and is bound by its modes."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = _Header(_VERSION_3, 0), (_Capabilities * 2)()

    def call(name: str) -> None:
        if getattr(libc, name)(ctypes.byref(header), held):
            raise OSError(ctypes.get_errno(), name)

    call("capget")
    before = held[0].effective
    held[0].effective &= ~_BEYOND_MODES
    call("capset")
    try:
        yield
    finally:
        held[0].effective = before
        call("capset")
