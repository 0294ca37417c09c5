"""What of the machine is shown to ranks beside their run directory: what their config names, and no more than data.

The config is that of whoever submits the job. What belongs to other jobs, and the socket by which one has the engine do
anything, is not theirs to name.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from orchestrator.agent.run_directory import RunDirectory
from orchestrator.fleets.engine import host_of
from orchestrator.spec.places import is_url, places_in


class NotShown(Exception):
    """The config names what no rank is to see."""


def folders_of(config: Mapping[str, Any]) -> tuple[Path, ...]:
    """The local places that a config names for data. None lies in another."""
    places = {Path(place) for _, place in places_in(config) if not is_url(place)}
    absolute = sorted(place for place in places if place.is_absolute() and not re.search(r"[\0\n]", str(place)))
    return tuple(place for place in absolute if not any(other in place.parents for other in absolute))


def shown_folders(
    run: RunDirectory, work_dir: Path, environ: Mapping[str, str], say: Callable[[str], None]
) -> tuple[Path, ...]:
    """What the run's config names and is there; what is not is said, and the program fails by it. Raises NotShown."""
    try:
        config = json.loads(run.config.read_text())
    except (OSError, ValueError):
        return ()
    if not isinstance(config, dict):
        return ()
    closed = (work_dir, Path(platformdirs.user_state_dir("elastic")))
    scheme, _, socket = host_of(environ).partition("://")
    shown = []
    for folder in folders_of(config):
        if not _is_there(folder):
            say(f"{folder}, which the config names, is not on this machine: the ranks do not see it")
            continue
        _refuse_what_is_no_data(folder, closed, Path(socket) if scheme == "unix" else None)
        shown.append(folder)
    return tuple(shown)


def _is_there(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:  # the agent may not look there
        return False


def _refuse_what_is_no_data(folder: Path, closed: Iterable[Path], socket: Path | None) -> None:
    kind = folder.stat().st_mode
    if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
        raise NotShown(f"the config names {folder}, which is neither a directory nor a file: name one with data")
    for mine in closed:
        if _is_within(folder, mine) or _is_within(mine, folder):
            raise NotShown(
                f"the config names {folder}, and what elastic itself has in {mine} is shown to no job: "
                "name a directory with nothing but data"
            )
    if socket is not None and _is_within(socket, folder):
        raise NotShown(
            f"the config names {folder}, where the Docker engine's {socket.name} is: "
            "name a directory with nothing but data"
        )


def _is_within(path: Path, directory: Path) -> bool:
    """Whether links lead a path into a directory, or to the same."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))
