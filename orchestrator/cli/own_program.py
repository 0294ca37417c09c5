"""A program of one's own on the local fleet: found here and now, as the shell of whoever submits it would find it."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.spec.models import JobSpec
from orchestrator.spec.own_program import absolute_working_dir


def with_program_of_here(spec: JobSpec, base: Path, environ: Mapping[str, str]) -> JobSpec:
    """The job with the absolute path of its program, and of the directory where that runs; `base`: the job file's.

    A worker's PATH is the controller's, which another shell may have started: what `python` means is settled here. In a
    container, paths are the image's, and nothing of it can be known. Raises UsageError for what is not here.
    """
    if spec.command is None or spec.resources.image is not None:
        return spec
    working_dir = absolute_working_dir(spec.working_dir, base)
    if not Path(working_dir).is_dir():
        what = "is not a directory" if Path(working_dir).exists() else "there is no such directory"
        raise UsageError(f"working_dir: {working_dir}: {what}; a relative one begins at the job file")
    program = _program(spec.command[0], Path(working_dir), environ)
    return spec.model_copy(update={"working_dir": working_dir, "command": (program, *spec.command[1:])})


def _program(name: str, working_dir: Path, environ: Mapping[str, str]) -> str:
    if os.sep in name:
        path = Path(os.path.abspath(working_dir / Path(name).expanduser()))  # an environment's python is a link: kept
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
        what = "is no program: make it executable (chmod +x)" if path.is_file() else "there is no such file"
        raise UsageError(f"command: {path}: {what}; a relative path begins where the program runs")
    found = shutil.which(name, path=environ.get("PATH"))
    if found is None:
        script = f"; to run a file, write its interpreter before it: [python, {name}]" if "." in name else ""
        raise UsageError(f"command: there is no program '{name}' on the PATH of this shell{script}")
    return os.path.abspath(found)
