"""The C library's allocator: on a CPU, what a step has allocated is kept for the next.

By itself it gives what lies at the end of its memory back to the kernel, and may ask for it again at every step: each
page of it is then filled with zeros anew. Where the blocks came to lie so, that was a fifteenth of a step on 32 px.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 * 2**20  # glibc refuses more
_NEVER = -1


def keep_memory() -> None:
    """Keep freed blocks of up to 32 MiB; larger ones go back to the kernel as before."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)


def give_back() -> None:
    """Give to the kernel what is kept and not in use."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is the one with these settings."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
