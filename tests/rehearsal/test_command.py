"""`elastic rehearse` as a person uses it: a command that sets all up, shows the job, prints the bill and is gone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.fleets.processes import marked_processes
from orchestrator.rehearsal.guard import VARIABLE
from tests.rehearsal.rehearsed import on_ec2
from tests.support.waiting import wait_until
from tests.survival.light_job import LightJob
from tests.survival.system import job_yaml

pytestmark = [pytest.mark.requires("seaweedfs"), pytest.mark.timeout(400)]


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(job_yaml(**on_ec2(LightJob(tmp_path)))))
    return path


def rehearse(job: Path, keep: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "orchestrator.cli.main", "rehearse", str(job), "--keep", str(keep), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def ended(rehearsal: "subprocess.Popen[str]") -> tuple[str, str]:
    """What it has printed, when it has ended or is to blame."""
    try:
        return rehearsal.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        rehearsal.kill()
        raise


def test_it_ends_with_the_job_and_the_bill(job_file: Path, tmp_path: Path) -> None:
    job, keep = LightJob(tmp_path), tmp_path / "kept"
    rehearsal = rehearse(job_file, keep, "--boot", "1s", "--kill-controller", "1s", "--throttle", "-o", "json")
    try:
        wait_until(lambda: rehearsal.poll() is not None or job.steps(), "training", bound_s=200)
        job.let_finish()
    finally:
        out, error = ended(rehearsal)
    assert rehearsal.returncode == 0, error
    told: dict[str, Any] = json.loads(out)
    assert told["job"]["phase"] == "succeeded"
    instances = told["bill"]["instances"]
    assert [line["instance"] for line in instances] == ["tiny-g1-n0-a0"]
    assert told["bill"]["seconds"] == sum(line["seconds"] for line in instances)
    assert "controller killed" in error
    assert marked_processes(str(keep.resolve()), VARIABLE) == []
    assert sorted(path.name for path in (keep / "machines").iterdir()), "the disks are kept"


def test_ctrl_c_ends_it_with_all_that_belongs_to_it(job_file: Path, tmp_path: Path) -> None:
    job, keep = LightJob(tmp_path), tmp_path / "kept"
    rehearsal = rehearse(job_file, keep, "--boot", "0s")
    try:
        wait_until(lambda: rehearsal.poll() is not None or job.steps(), "training", bound_s=200)
    except AssertionError:
        rehearsal.kill()
        raise
    assert marked_processes(str(keep.resolve()), VARIABLE)
    rehearsal.send_signal(signal.SIGINT)
    _, error = ended(rehearsal)
    assert rehearsal.returncode == 130, error
    assert "The rehearsal is ended" in error
    assert marked_processes(str(keep.resolve()), VARIABLE) == []
