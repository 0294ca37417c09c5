"""What it means that the engine makes no container: for ever, or this time."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from docker import DockerClient
from docker.errors import APIError
from requests import Response

from orchestrator.agent.containers.starting import NotStarted, start_rank
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.fleets.engine import connect
from orchestrator.jobs.instances import AssignedProgram
from tests.containers.test_what_a_rank_is import crew
from tests.support.docker_engine import Engine


class Refusing:
    """An engine that answers the request for a container with an error."""

    def __init__(self, status: int, said: str) -> None:
        self.status, self.said = status, said
        self.api = self

    def create_host_config(self, **asked: Any) -> dict[str, Any]:
        return asked

    def create_container(self, **asked: Any) -> None:  # noqa: ARG002
        response = Response()
        response.status_code = self.status
        raise APIError("refused", response=response, explanation=self.said)


@pytest.mark.parametrize(
    ("status", "said", "outcome", "message"),
    [
        (400, "Duplicate mount point: /tmp", "refused", "the Docker engine refuses the container of rank 1: Duplicate"),
        (500, "no space left on device", "failed", "the container of rank 1 could not be started: no space left"),
        (400, 'exec: "run": executable file not found', "refused", "the image mine has no program python"),
    ],
)
def test_what_makes_no_sense_to_the_engine_is_not_asked_for_again(
    status: int, said: str, outcome: str, message: str
) -> None:
    with pytest.raises(NotStarted) as refusal:
        start_rank(cast("DockerClient", Refusing(status, said)), crew(), "mine", 1, "")

    assert refusal.value.ended.outcome == outcome
    assert refusal.value.ended.message is not None
    assert refusal.value.ended.message.startswith(message)


@pytest.mark.requires("docker")
def test_a_real_engine_refuses_what_cannot_be_mounted(docker_engine: Engine, tmp_path: Path) -> None:
    wanted = replace(crew(), image_id=docker_engine.base, run=RunDirectory(tmp_path), folders=(Path("/"),))
    with contextlib.closing(connect(os.environ)) as client, pytest.raises(NotStarted) as refusal:
        start_rank(client, wanted, docker_engine.base, 0, "")

    assert refusal.value.ended.outcome == "refused"
    assert "destination can't be '/'" in str(refusal.value.ended.message)


@pytest.mark.requires("docker")
def test_a_real_engine_refuses_a_working_directory_that_does_not_begin_at_the_root(
    docker_engine: Engine, tmp_path: Path
) -> None:
    program = AssignedProgram(command=("python3",), working_dir="src")
    wanted = replace(crew(program=program), image_id=docker_engine.base, run=RunDirectory(tmp_path))
    with contextlib.closing(connect(os.environ)) as client, pytest.raises(NotStarted) as refusal:
        start_rank(client, wanted, docker_engine.base, 0, "")

    assert refusal.value.ended.outcome == "refused"
    assert "working directory" in str(refusal.value.ended.message)
