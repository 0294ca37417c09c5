"""`elastic rehearse`: what it refuses before anything is started. The rehearsals themselves: tests/rehearsal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.cli.main import run
from orchestrator.rehearsal.turning import Health

JOB = """\
name: digits
training: {dataset: digits, labels: 50, steps: 100}
resources: {fleet: FLEET, ladder: [{instance: INSTANCE}]}
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("FLEET", "ec2").replace("INSTANCE", "g6.xlarge"))
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "resources.market=on_demand", "--interrupt", "5s"], "--interrupt-without-notice"),
        (["--no-capacity", "here"], "--no-capacity here: name a zone"),
        (["--no-quota", "cheap"], "--no-quota cheap"),
        (["--keep", "."], "name a new directory"),
    ],
)
def test_what_cannot_be_rehearsed_is_said_at_once(
    job: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rehearse", str(job), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_job_in_containers_needs_an_engine_here(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert run(["rehearse", str(job), "--set", "resources.image=mine:1"]) == 1
    assert "there is no Docker engine at unix:///nowhere/docker.sock" in capsys.readouterr().err


def test_a_job_of_this_machine_has_no_way_through_the_cloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("FLEET", "local").replace("INSTANCE", "local"))
    assert run(["rehearse", str(path)]) == 2
    assert "resources.fleet" in capsys.readouterr().err


def test_missing_parts_are_named_with_what_installs_them(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.rehearsal.missing.executable", lambda _name: None)
    assert run(["rehearse", str(job)]) == 1
    error = capsys.readouterr().err
    assert "SeaweedFS" in error
    assert "elastic[rehearse]" in error


@pytest.mark.timeout(120)
def test_a_rehearsal_that_breaks_down_is_told_before_the_job_ends(
    job: Path, store_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has broken may be what the job waits for."""

    @contextmanager
    def broken(*_: object, **_more: object) -> Iterator[SimpleNamespace]:
        health = Health()
        health.broke("The rehearsal itself has broken down (machine room): a fault")
        yield SimpleNamespace(environ={**os.environ, "ELASTIC_STORE": store_url}, health=health, begin=lambda: None)

    monkeypatch.setattr("orchestrator.rehearsal.rehearsal.rehearsing", broken)
    assert run(["rehearse", str(job)]) == 1
    error = capsys.readouterr().err
    assert "Submitted digits" in error
    assert "broken down (machine room): a fault" in error
