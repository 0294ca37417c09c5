"""What of the machine is shown to ranks: what the config names, as far as it is there and nothing but data."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agent.containers.shown import NotShown, shown_folders
from orchestrator.agent.run_directory import RunDirectory

Show = Callable[..., tuple[Path, ...]]


@pytest.fixture
def instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the instances of this machine have their work directories; there is another beside this job's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    instances = tmp_path / "state" / "elastic" / "instances" / "store-1"
    (instances / "other").mkdir(parents=True)
    return instances


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def show(instances: Path, tmp_path: Path, said: list[str]) -> Show:
    run = RunDirectory.of(instances / "digits-g1", 1)
    run.path.mkdir(parents=True)

    def show(*places: Path) -> tuple[Path, ...]:
        run.config.write_text(json.dumps({"folders": {str(i): str(place) for i, place in enumerate(places)}}))
        environ = {"DOCKER_HOST": f"unix://{tmp_path}/run/docker.sock"}
        return shown_folders(run, instances / "digits-g1", environ, said.append)

    return show


def test_what_is_there_is_shown_and_of_what_is_not_it_is_said(show: Show, tmp_path: Path, said: list[str]) -> None:
    images, weights, absent = tmp_path / "images", tmp_path / "weights.pt", tmp_path / "absent"
    images.mkdir()
    weights.touch()
    assert show(images, weights, absent) == (images, weights)
    assert said == [f"{absent}, which the config names, is not on this machine: the ranks do not see it"]


def test_what_other_jobs_have_is_shown_to_none(show: Show, instances: Path, tmp_path: Path) -> None:
    (tmp_path / "way-round").symlink_to(instances / "other")
    for place in (instances / "other", tmp_path / "way-round", tmp_path / "state", instances / "digits-g1"):
        with pytest.raises(NotShown, match="is shown to no job"):
            show(place)


def test_the_engine_cannot_be_reached_by_what_is_shown(show: Show, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(NotShown, match=r"where the Docker engine's docker\.sock is"):
        show(tmp_path / "run")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotShown, match="is neither a directory nor a file"):
        show(tmp_path / "pipe")
