"""Making and starting the containers of a generation, and what it means when that is refused."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.agent.containers.ranks import Crew, RankContainer, User
from orchestrator.agent.run_directory import BAD_INPUT
from orchestrator.fleets.engine import NETWORK_LABEL
from orchestrator.jobs.instances import TrainerExit

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.errors import APIError


class NotStarted(Exception):
    """The ranks cannot begin: how they have ended, before they began."""

    def __init__(self, ended: TrainerExit) -> None:
        super().__init__(ended.message)
        self.ended = ended


def start_rank(client: "DockerClient", crew: Crew, image_name: str, local_rank: int, first_id: str) -> str:
    """Make a rank's container and start it; its id. `first_id`: as `Crew.container` has it. Raises NotStarted.

    Once more after a reply that was lost, it is the same container.
    """
    from docker.errors import APIError

    try:
        container_id = _make(client, crew.container(local_rank, first_id))
        client.api.start(container_id)
    except APIError as error:
        raise NotStarted(_refusal(error, crew, image_name, local_rank)) from error
    return container_id


def make_network(client: "DockerClient", crew: Crew) -> None:
    """Make the private network of a generation. Raises NotStarted."""
    from docker.errors import APIError

    name = crew.meeting.name
    labels = {**crew.labels, NETWORK_LABEL: name}
    try:
        client.api.create_network(name, driver="bridge", internal=True, labels=labels, check_duplicate=True)
    except APIError as error:
        if error.status_code == 409:  # it was made, and the reply was lost
            return
        message = f"the network between the containers could not be made: {_said(error)}"
        raise NotStarted(TrainerExit(outcome="failed", code=1, message=message)) from error


def state_of(client: "DockerClient", container_id: str) -> Mapping[str, Any]:
    """The engine's account of a container; an empty one of one that is no more."""
    from docker.errors import NotFound

    try:
        state: Mapping[str, Any] = client.api.inspect_container(container_id)["State"]
    except NotFound:
        return {}
    return state


def is_rootless(client: "DockerClient") -> bool:
    """Whether the engine runs without root: whom it calls root is the user that runs it."""
    return any("name=rootless" in option for option in client.info().get("SecurityOptions") or ())


def give(directory: Path, user: User) -> None:
    """Make a directory a user's, with all that is in it. Only root can."""
    os.chown(directory, user.uid, user.gid)
    for path in directory.rglob("*"):
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def _make(client: "DockerClient", wanted: RankContainer) -> str:
    from docker.errors import APIError

    networking = None
    if wanted.alias is not None:
        endpoint = client.api.create_endpoint_config(aliases=[wanted.alias])
        # The stubs take it for one endpoint; it is a network's name, and the endpoint there.
        networking = client.api.create_networking_config({wanted.host["network_mode"]: endpoint})  # type: ignore[arg-type]
    try:
        made = client.api.create_container(
            **wanted.config,
            host_config=client.api.create_host_config(**wanted.host),
            networking_config=networking,
            use_config_proxy=False,  # it may have a password in it
        )
    except APIError as error:
        if error.status_code != 409:
            raise
        return str(client.api.inspect_container(wanted.config["name"])["Id"])
    return str(made["Id"])


def _refusal(error: "APIError", crew: Crew, image_name: str, local_rank: int) -> TrainerExit:
    """Why a container could not be made or started, and whether it ever will."""
    said, program = _said(error), crew.command()[0]
    if "could not select device driver" in said:
        why = (
            "the Docker engine has no NVIDIA runtime, and the job has GPUs: install nvidia-container-toolkit there, "
            "and run `nvidia-ctk runtime configure`"
        )
    elif "executable file not found" in said or ("exec:" in said and "no such file" in said):
        why = f"the image {image_name} has no program {program}"
    elif "permission denied" in said and "exec" in said:
        why = f"the program {program} of the image {image_name} cannot be executed"
    elif error.status_code == 400:  # what was asked for makes no sense to it, and will not the next time
        why = f"the Docker engine refuses the container of rank {crew.global_rank(local_rank)}: {said}"
    else:
        message = f"the container of rank {crew.global_rank(local_rank)} could not be started: {said}"
        return TrainerExit(outcome="failed", code=1, message=message)
    return TrainerExit(outcome="refused", code=BAD_INPUT, message=why)


def _said(error: "APIError") -> str:
    return " ".join((error.explanation or str(error)).split())
