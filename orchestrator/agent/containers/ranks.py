"""What the container of a rank is: what it is given, and what it is refused. Pure.

A rank's container is like a pod's: its image needs neither elastic nor torchrun. It gets torchrun's environment, sees
the run directory and the images that its config names, and nothing else of the machine.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.agent.containers.network import LEADER, Meeting
from orchestrator.agent.launcher import Program, rank_environment
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.fleets.engine import (
    AGENT_LABEL,
    GENERATION_LABEL,
    INSTANCE_LABEL,
    JOB_LABEL,
    RANK_LABEL,
    RUN_LABEL,
    WORK_DIR_LABEL,
)
from orchestrator.fleets.processes import MARKER
from orchestrator.jobs.instances import Assignment
from orchestrator.spec.places import RUN_DIRECTORY_IN_CONTAINER

NOBODY_UID = 10001
"""Ranks of an agent that is root are this user and group, which own nothing on the machine but the run directory."""
PIDS_LIMIT = 4096
"""Processes and threads of a rank: torch has dozens a core, loaders have their own."""
LOG_FILE_BYTES = 16 * 1024**2
LOG_FILES = 2
"""What the engine keeps of what a rank prints: the agent has read it long before."""
RUN_DIRECTORY = Path(RUN_DIRECTORY_IN_CONTAINER)
"""Where a rank sees its run directory. At its own path an image's /root could keep all but root from it."""
HOST_RUN_MARKER = "ELASTIC_HOST_RUN_DIR"
"""Where it is on the machine: by that the processes of a run are found while the engine is away."""
_MEMORY_FOLDER = "rw,exec,nosuid,nodev,mode=1777"
"""Of /tmp: torch compiles there, and loads what it has compiled."""


_CLOSED_FOLDER = Path("/root")
"""In most images only root gets through it to a folder that is mounted within."""


@dataclass(frozen=True)
class User:
    """Who a rank is, as numbers."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


def user_of_ranks(own_uid: int, own_gid: int, *, rootless: bool) -> User:
    """The agent's own user or, of root, one without rights. `rootless`: the engine calls the agent's user root."""
    if rootless:
        return User(0, 0)
    return User(own_uid, own_gid) if own_uid else User(NOBODY_UID, NOBODY_UID)


@dataclass(frozen=True)
class Crew:
    """The ranks of a generation on this instance."""

    assignment: Assignment
    run: RunDirectory
    program: Program
    image_id: str
    work_dir: Path
    agent: str
    """Names the agent's process."""
    instance: str
    user: User
    own_address: str
    gpus: tuple[int, ...]
    folders: tuple[Path, ...]
    """What the config names, to be read."""

    @property
    def run_inside(self) -> RunDirectory:
        """The run directory as the ranks see it."""
        return RunDirectory(RUN_DIRECTORY)

    @property
    def meeting(self) -> Meeting:
        return Meeting.of(self.assignment, self.work_dir)

    @property
    def labels(self) -> dict[str, str]:
        """Whose containers and networks these are."""
        return {
            WORK_DIR_LABEL: str(self.work_dir),
            AGENT_LABEL: self.agent,
            INSTANCE_LABEL: self.instance,
            JOB_LABEL: self.assignment.job,
            GENERATION_LABEL: str(self.assignment.generation),
        }

    def global_rank(self, local_rank: int) -> int:
        return self.assignment.node_rank * self.assignment.workers + local_rank

    def name(self, local_rank: int) -> str:
        """For a person who lists containers; no two on a machine have the same."""
        unique = hashlib.sha256(f"{self.work_dir}\n{self.agent}".encode()).hexdigest()[:8]
        return (
            f"elastic-{self.assignment.job}-g{self.assignment.generation}-rank{self.global_rank(local_rank)}-{unique}"
        )

    def command(self) -> list[str]:
        program = Program.of(self.assignment, self.program)
        return [program.executable or "python", *program.filled(self.run_inside)]

    def environment(self, local_rank: int) -> dict[str, str]:
        """torchrun's variables, and what every rank of elastic is told."""
        assignment = self.assignment
        environ = rank_environment(self.run_inside, assignment, self.own_address, self.gpus)
        del environ["ELASTIC_DIE_WITH_PARENT"]  # its parent is the engine's; the guard ends it
        if self.gpus:  # the engine shows it these alone, and they are counted anew
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(len(self.gpus))))
        return {
            "HOME": "/tmp",
            "USER": "elastic",  # the image knows no such user, and programs ask for its name
            "LOGNAME": "elastic",
            **environ,
            **self.meeting.environment(assignment),
            HOST_RUN_MARKER: str(self.run.path),
            MARKER: str(self.work_dir),  # by which whoever ends the instance finds its processes, also without engine
            "RANK": str(self.global_rank(local_rank)),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(assignment.workers * assignment.nodes),
            "LOCAL_WORLD_SIZE": str(assignment.workers),
            "GROUP_RANK": str(assignment.node_rank),
            "NODE_RANK": str(assignment.node_rank),
            "GROUP_WORLD_SIZE": str(assignment.nodes),
            "TORCHELASTIC_RUN_ID": f"{assignment.job}-g{assignment.generation}",
        }

    def container(self, local_rank: int, first_id: str) -> "RankContainer":
        """What the engine is asked for.

        `first_id`: the container of this instance's first rank, whose namespaces the others share; '' for that itself.
        """
        assignment = self.assignment
        config: dict[str, Any] = {
            "image": self.image_id,
            "name": self.name(local_rank),
            "entrypoint": self.command(),
            "command": [],
            "environment": self.environment(local_rank),
            "labels": {**self.labels, RUN_LABEL: str(self.run.path), RANK_LABEL: str(self.global_rank(local_rank))},
            "user": str(self.user),
            "healthcheck": {"test": ["NONE"]},
        }
        host: dict[str, Any] = {
            "read_only": True,
            "tmpfs": {"/tmp": _MEMORY_FOLDER},
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "pids_limit": PIDS_LIMIT,
            "mounts": self._mounts(),
            "restart_policy": {"Name": "no"},
            "log_config": {
                "type": "json-file",
                "config": {"max-size": str(LOG_FILE_BYTES), "max-file": str(LOG_FILES)},
            },
        }
        if self.user.uid:  # of an engine that gives containers user numbers of their own: not to these
            host["userns_mode"] = "host"
        if assignment.program is not None and assignment.program.working_dir is not None:
            config["working_dir"] = assignment.program.working_dir
        if assignment.memory_bytes is not None:  # no swap beyond it
            host["mem_limit"] = host["memswap_limit"] = assignment.memory_bytes
        if self.gpus:
            host["device_requests"] = [{"DeviceIDs": [str(gpu) for gpu in self.gpus], "Capabilities": [["gpu"]]}]
        if first_id:
            host["network_mode"] = host["ipc_mode"] = f"container:{first_id}"
            return RankContainer(config, host)
        host |= {"network_mode": self.meeting.mode, "ipc_mode": "shareable", "shm_size": assignment.shared_memory_bytes}
        return RankContainer(config, host, LEADER if self.meeting.kind == "private" and self.meeting.leads else None)

    @property
    def open_folder(self) -> Path | None:
        """An empty folder of the machine that is mounted over a closed one of the image; None: there is no need."""
        is_closed = self.user.uid != 0 and any(_CLOSED_FOLDER in folder.parents for folder in self.folders)
        return self.work_dir / "open" if is_closed else None

    def _mounts(self) -> list[dict[str, Any]]:
        mounts = [_mount(self.run.path, RUN_DIRECTORY, writable=True)]
        if self.open_folder is not None:  # the engine makes in it what the folders are mounted on
            mounts.append(_mount(self.open_folder, _CLOSED_FOLDER, writable=True))
        return [*mounts, *(_mount(folder, folder, writable=False) for folder in self.folders)]


@dataclass(frozen=True)
class RankContainer:
    """A container as the engine's API is asked for it."""

    config: dict[str, Any]
    """Arguments of the SDK's `create_container`."""
    host: dict[str, Any]
    """Arguments of the SDK's `create_host_config`."""
    alias: str | None = None
    """Its name in the network that it is in."""


def _mount(source: Path, target: Path, *, writable: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": str(target), "ReadOnly": not writable}
