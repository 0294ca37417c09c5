"""Which keys there may be. A key can never escape its prefix, whatever it was made from."""

import re
from functools import lru_cache

from orchestrator.store.protocol import StoreError

_PART = re.compile(r"[A-Za-z0-9._-]+")
_ALLOWED = "letters, digits, '.', '_' and '-', with '/' between parts"
_MAX_BYTES = 900  # S3 takes 1,024 with the store's own prefix
_MAX_PART_BYTES = 200  # a file name takes 255 on most file systems


def is_key_part(name: str) -> bool:
    """Whether this can stand between two slashes of a key."""
    return name not in (".", "..") and len(name) <= _MAX_PART_BYTES and _PART.fullmatch(name) is not None


@lru_cache(maxsize=4096)  # the same few are asked for again and again; a refusal is not kept
def check_key(key: str) -> str:
    """Return the key; raise `StoreError` for one that is not allowed."""
    if len(key) > _MAX_BYTES or not all(is_key_part(part) for part in key.split("/")):
        raise StoreError(f"{key[:_MAX_BYTES]!r} cannot be a key in the store: use {_ALLOWED}.")
    return key


def split_prefix(prefix: str) -> tuple[str, str]:
    """The directory of a listing's prefix (empty or ending in `/`) and the beginning of a name in it."""
    directory, slash, beginning = prefix.rpartition("/")
    if slash:
        check_key(directory)
    if beginning and _PART.fullmatch(beginning) is None:
        raise StoreError(f"{prefix!r} cannot be a prefix in the store: use {_ALLOWED}.")
    return directory + slash, beginning


def check_directory(prefix: str) -> str:
    """Return the prefix; raise `StoreError` unless it is empty or a key with `/` at its end."""
    if split_prefix(prefix)[1]:
        raise StoreError(f"{prefix!r} names no directory of the store: it must end in '/'.")
    return prefix
