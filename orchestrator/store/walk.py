"""Listing a directory tree in the order of its keys."""

import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.store.keys import is_key_part


def _names(directory: Path) -> Iterator[str]:
    """The names in a directory, those of directories with `/` at the end, in the order of the keys made from them.

    The slash takes part in the order: `a-b` comes before what is under `a/`, because `-` sorts before `/`.
    """
    try:
        with os.scandir(directory) as entries:
            names = [entry.name + "/" * entry.is_dir() for entry in entries if is_key_part(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return  # removed meanwhile, or never there
    yield from sorted(names)


def walk(root: Path, directory: str, beginning: str = "", start_after: str = "") -> Iterator[str]:
    """The keys under `directory` (empty or ending in `/`) whose next part starts so, after `start_after`."""
    for name in _names(root / directory):
        key = directory + name
        if not name.startswith(beginning):
            continue
        if not name.endswith("/"):
            if key > start_after:
                yield key
        elif key > start_after or start_after.startswith(key):  # else all under it sorts before
            yield from walk(root, key, start_after=start_after)


def directories(root: Path, directory: str) -> Iterator[str]:
    """The names directly under `directory` that have an object somewhere below."""
    for name in _names(root / directory):
        if name.endswith("/") and any(True for _ in walk(root, directory + name)):
            yield name[:-1]
