"""What it means that the engine makes no container: for ever, or this time."""

from typing import Any, cast

import pytest
from docker import DockerClient
from docker.errors import APIError
from requests import Response

from orchestrator.agent.containers.starting import NotStarted, start_rank
from tests.containers.test_what_a_rank_is import crew


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
