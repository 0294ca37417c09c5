"""Compile what is installed below a directory and not compiled yet: `python compile.py DIRECTORY`.

The compiled files hold no time, and are not compared with their sources when they are imported: they are the same in
every build, and a layer has those of its own files alone. pip would write times into them, and `python -m compileall`
would write all of them again.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path
from py_compile import PycInvalidationMode, compile


def compile_one(source: str) -> None:
    """Write one compiled file. Some sources are templates or for other Pythons: they stay as they are."""
    compile(source, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)


def main(directory: Path) -> None:
    """Compile, on all cores."""
    sources = [str(path) for path in sorted(directory.rglob("*.py")) if not Path(cache_from_source(str(path))).exists()]
    with ProcessPoolExecutor() as processes:
        list(processes.map(compile_one, sources, chunksize=32))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
