"""A program of one's own on the local fleet: found here and now, as the shell of whoever submits it would find it."""

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.spec.models import JobSpec
from orchestrator.spec.own_program import absolute_working_dir
from orchestrator.spec.places import unknown_home


def with_program_of_here(spec: JobSpec, base: Path, environ: Mapping[str, str]) -> JobSpec:
    """The job with the absolute path of its program, and of the directory where that runs; `base`: the job file's.

    A worker's PATH is the controller's, which another shell may have started: what `python` means is settled here. In a
    container, paths are the image's, and nothing of it can be known. Raises UsageError for what is not here.
    """
    if spec.command is None or spec.resources.image is not None:
        return spec
    _require_home("working_dir", spec.working_dir or ".")
    working_dir = absolute_working_dir(spec.working_dir, base)
    if what := directory_misfit(working_dir):
        raise UsageError(f"working_dir: {working_dir}: {what}; a relative one begins at the job file")
    program = _program(spec.command[0], Path(working_dir), environ)
    return spec.model_copy(update={"working_dir": working_dir, "command": (program, *spec.command[1:])})


def _require_home(field: str, place: str) -> None:
    if what := unknown_home(place):
        raise UsageError(f"{field}: {place} {what}")


def directory_misfit(place: str) -> str | None:
    """Why there is no directory that can be used at this path, or None if there is one."""
    return _misfit(place, stat.S_ISDIR, "directory")


def _misfit(place: str | Path, fits: Callable[[int], bool], kind: str) -> str | None:
    try:
        mode = os.stat(place).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: with a character that no path has
        return f"there is no such {kind}"
    except OSError as error:  # a directory above it that this user may not enter, a circle of links
        return f"this {kind} cannot be reached ({error.strerror})"
    return None if fits(mode) else f"is not a {kind}"


def _program(name: str, working_dir: Path, environ: Mapping[str, str]) -> str:
    if os.sep in name:
        _require_home("command", name)
        path = Path(os.path.abspath(working_dir / Path(name).expanduser()))  # an environment's python is a link: kept
        what = _misfit(path, stat.S_ISREG, "file")
        if what is None and os.access(path, os.X_OK):
            return str(path)
        what = what or "is no program: make it executable (chmod +x)"
        raise UsageError(f"command: {path}: {what}; a relative path begins where the program runs")
    found = shutil.which(name, path=environ.get("PATH"))
    if found is None:
        script = f"; to run a file, write its interpreter before it: [python, {name}]" if "." in name else ""
        raise UsageError(f"command: there is no program '{name}' on the PATH of this shell{script}")
    return os.path.abspath(found)
