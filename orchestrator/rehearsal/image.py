"""The image that machines boot from: it has this very elastic, so that nothing has to be installed on each."""

import os
import shlex
import sys
from pathlib import Path

from orchestrator.rehearsal.machine import root_of


def elastic_installed(machine: Path, package_key: str) -> None:
    """Put this elastic on a machine's disk as though its user-data had installed it from the bucket before."""
    root = root_of(machine)
    commands = root / "venv" / "bin"
    commands.mkdir(parents=True)
    (root / "installed").write_text(package_key)
    python = shlex.quote(sys.executable)
    for name, words in {"elastic": f"{python} -m orchestrator.cli.main", "python": python}.items():
        path = commands / name
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        os.chmod(path, 0o755)
