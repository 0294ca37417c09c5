"""The Docker engine of this machine: how it is reached, how containers say whose they are, and how they are removed.

A container carries the work directory of its instance as a label, as processes carry it in their environment
(`processes.MARKER`). So whoever ends an instance finds its containers, whatever has become of the agent.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ElasticError

if TYPE_CHECKING:
    from docker import DockerClient

WORK_DIR_LABEL = "elastic.work-dir"
"""The work directory of the instance: unique on the machine."""
AGENT_LABEL = "elastic.agent"
"""The agent's process: one that comes after it has another."""
RUN_LABEL = "elastic.run"
"""The run directory."""
INSTANCE_LABEL = "elastic.instance"
JOB_LABEL = "elastic.job"
GENERATION_LABEL = "elastic.generation"
RANK_LABEL = "elastic.rank"
NETWORK_LABEL = "elastic.network"
"""Of the network between the ranks of one generation: its name."""

ANSWERS_WITHIN_S = 20.0
"""An engine that says nothing for so long counts as away."""


REMOVES_WITHIN_S = 5.0
"""The same where somebody waits who has other things to do."""


_USUAL_HOST = "unix:///var/run/docker.sock"


class EngineError(ElasticError):
    """The Docker engine is not there, or does not let itself be asked."""

    def __init__(self, message: str, *, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass
        """Whether it may be there a moment later, as one that is started again is."""


def connect(environ: Mapping[str, str], timeout_s: float = ANSWERS_WITHIN_S) -> "DockerClient":
    """The engine that `host_of` names; it has answered once. Raises EngineError."""
    import docker
    from docker.errors import DockerException

    try:
        settings = {**environ, "DOCKER_HOST": host_of(environ)}
        client = docker.from_env(environment=settings, timeout=int(timeout_s), max_pool_size=64)
    except DockerException as error:
        raise unreachable(error, environ) from error
    client.api.trust_env = False  # no proxy lies before this machine's engine; each request would look for one
    try:
        client.ping()
    except Exception as error:
        client.close()
        if is_absence(error) or is_refusal(error):
            raise unreachable(error, environ) from error
        raise
    return client


def described(environ: Mapping[str, str], timeout_s: float = ANSWERS_WITHIN_S) -> dict[str, Any]:
    """What the engine says of itself. Raises EngineError."""
    with _asked(environ, timeout_s) as client:
        info: dict[str, Any] = client.info()
        return info


def host_of(environ: Mapping[str, str]) -> str:
    """DOCKER_HOST, else the socket that the docker command has been told to use (its context), else the usual one."""
    from docker.context import ContextAPI
    from docker.errors import DockerException

    if named := environ.get("DOCKER_HOST"):
        return named
    try:
        context = ContextAPI.get_context(environ.get("DOCKER_CONTEXT"))
    except DockerException:
        context = None
    host = str(context.Host) if context is not None else ""
    return host if host.startswith("unix://") else _USUAL_HOST


def way_to_engine(environ: Mapping[str, str]) -> dict[str, str]:
    """What leads another process to the same engine, also one with another home, where it finds no context."""
    kept = {name: environ[name] for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH") if name in environ}
    return {"DOCKER_HOST": host_of(environ), **kept}


def unreachable(error: Exception, environ: Mapping[str, str]) -> EngineError:
    """What it means that the engine cannot be asked, and what to do."""
    where = host_of(environ)
    causes = list(_causes(error))
    if any(isinstance(cause, PermissionError) for cause in causes):
        return EngineError(
            f"permission to use the Docker engine at {where} is denied: add this user to the group docker",
            may_pass=False,
        )
    if any(isinstance(cause, FileNotFoundError) for cause in causes):
        return EngineError(
            f"there is no Docker engine at {where}: install and start one, or set DOCKER_HOST", may_pass=True
        )
    if any(isinstance(cause, ConnectionError) for cause in causes):
        return EngineError(f"no Docker engine answers at {where}: start it, or set DOCKER_HOST", may_pass=True)
    said = " ".join(str(error).split())
    return EngineError(f"the Docker engine at {where} cannot be asked: {said}", may_pass=True)


def is_absence(error: Exception) -> bool:
    """Whether an error says that the engine is away or in trouble, and nothing about what was asked of it."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    if isinstance(error, APIError):
        return bool(error.is_server_error())
    return isinstance(error, (DockerException, RequestException, HTTPError, ConnectionError, TimeoutError))


def is_refusal(error: Exception) -> bool:
    """Whether an error is what the engine says against what was asked of it."""
    from docker.errors import APIError

    return isinstance(error, APIError)


def remove_containers(client: "DockerClient", label: str, value: str) -> int:
    """Remove whatever carries the label with that value, running or not: containers, then networks; how many are left.

    What another removes at the same time counts as removed. Raises what the SDK raises when the engine is away.
    """
    from docker.errors import APIError

    carrying = {"label": f"{label}={value}"}
    containers = _listed(client, carrying)
    # The network between instances carries the label of the one that made it, and any of them may leave last.
    joined = {name for container in containers for name in container["NetworkSettings"]["Networks"]}
    for container in containers:
        with contextlib.suppress(APIError):  # gone meanwhile, or on its way
            client.api.remove_container(container["Id"], force=True, v=True)
    shared = [each for each in client.api.networks(filters={"label": NETWORK_LABEL}) if each["Name"] in joined]
    for network in [*client.api.networks(filters=carrying), *shared]:
        remove_network(client, network["Id"])
    return len(_listed(client, carrying))


def remove_network(client: "DockerClient", network_id: str) -> bool:
    """Remove a network that nobody is in any more; whether it is gone."""
    from docker.errors import APIError, NotFound

    try:
        client.api.remove_network(network_id)
    except NotFound:
        return True
    except APIError:  # somebody is still in it: whoever leaves last removes it
        return False
    return True


def remove_instance(environ: Mapping[str, str], work_dir: str) -> None:
    """Remove the containers of an instance. Raises EngineError."""
    with _asked(environ, REMOVES_WITHIN_S) as client:
        remove_containers(client, WORK_DIR_LABEL, work_dir)


def remove_instances_below(environ: Mapping[str, str], directory: Path) -> int:
    """Remove the containers of every instance with its work directory below this one; how many are left.

    Raises EngineError.
    """
    labelled = {"label": WORK_DIR_LABEL}
    with _asked(environ, REMOVES_WITHIN_S) as client:
        found = [*_listed(client, labelled), *client.api.networks(filters=labelled)]
        work_dirs = {Path(each["Labels"][WORK_DIR_LABEL]) for each in found}
        below = [work_dir for work_dir in work_dirs if work_dir.is_relative_to(directory)]
        return sum(remove_containers(client, WORK_DIR_LABEL, str(work_dir)) for work_dir in below)


@contextlib.contextmanager
def _asked(environ: Mapping[str, str], timeout_s: float) -> "Iterator[DockerClient]":
    """The engine for as long as it is asked something. Raises EngineError, whatever keeps it from answering."""
    with contextlib.closing(connect(environ, timeout_s)) as client:
        try:
            yield client
        except Exception as error:
            if is_absence(error) or is_refusal(error):
                raise unreachable(error, environ) from error
            raise


def _listed(client: "DockerClient", filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.api.containers(all=True, filters=dict(filters))
    return found


def _causes(error: BaseException) -> "list[BaseException]":
    """An error, what it was raised from, and the errors that it carries as arguments."""
    found, left = [], [error]
    while left:
        each = left.pop()
        if each not in found:
            found.append(each)
            left += [more for more in (each.__cause__, each.__context__) if more is not None]
            left += [more for more in each.args if isinstance(more, BaseException)]
    return found
