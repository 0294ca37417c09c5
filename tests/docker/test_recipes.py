"""What can be said of the images without building them."""

import configparser
import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from orchestrator.rehearsal.serving import executable
from tests.support.docker_images import DOCKER, REPOSITORY

DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


def run_script(name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(DOCKER / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def names_of(requirements: list[str]) -> set[str]:
    found = [re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements]
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    command = executable("hadolint")
    assert command is not None
    answer = subprocess.run([command, dockerfile], capture_output=True, text=True, timeout=60, check=False)

    assert (answer.returncode, answer.stdout) == (0, "")


def test_hadolint_would_say_something(tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt.Dockerfile"
    spoilt.write_text(DOCKERFILES[0].read_text() + "\nRUN cd /tmp && sudo pip install flask\n")
    command = executable("hadolint")
    assert command is not None

    assert subprocess.run([command, spoilt], capture_output=True, timeout=60, check=False).returncode == 1


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_oldest_builder_takes_it(dockerfile: Path) -> None:
    text = dockerfile.read_text()

    assert not re.search(r"^# *syntax=|--mount|--chmod|<<", text, re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_nothing_of_a_machine_is_built_in(dockerfile: Path) -> None:
    assert not re.search(r"index-url|find-links|trusted-host|proxy|cert", dockerfile.read_text(), re.IGNORECASE)


def test_the_images_together_have_every_dependency() -> None:
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    has = {name: names_of(run_script("dependencies.py", name).stdout.split()) for name in ("controller", "trainer")}

    assert has["controller"] | has["trainer"] | {"torch", "torchvision"} == names_of(listed)
    assert not (has["controller"] | has["trainer"]) & {"torch", "torchvision"}


def test_a_dependency_that_is_gone_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(DOCKER / "dependencies.py", tmp_path / "docker")
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["torch>=2", "torchvision", "pillow"]\n')
    requirements = runpy.run_path(str(tmp_path / "docker" / "dependencies.py"))["requirements"]

    with pytest.raises(ValueError, match="scikit-learn: not among the dependencies"):
        requirements("controller")


def test_every_dependency_is_pinned() -> None:
    pins = [line for line in (DOCKER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    wanted = {"hatchling"}
    for name in ("controller", "trainer"):
        wanted |= names_of(run_script("dependencies.py", name).stdout.split())

    assert all(re.fullmatch(r"[a-z0-9.-]+==[^=\s]+", pin) for pin in pins)
    assert wanted <= names_of(pins)


def test_an_unknown_image_is_told(tmp_path: Path) -> None:
    answer = run_script("dependencies.py", "dashboard")

    assert answer.returncode == 1
    assert answer.stderr == "usage: dependencies.py controller|trainer\n"


def test_the_buckets_keys_are_drawn_once_and_for_few_eyes(tmp_path: Path) -> None:
    first = run_script("private_bucket.py", "keys", tmp_path)
    credentials, config = (tmp_path / "credentials").read_text(), (tmp_path / "s3.json").read_text()
    second = run_script("private_bucket.py", "keys", tmp_path)

    read = configparser.ConfigParser()
    read.read_string(credentials)
    secret = read["default"]["aws_secret_access_key"]
    (identity,) = json.loads(config)["identities"]
    assert identity["credentials"] == [{"accessKey": read["default"]["aws_access_key_id"], "secretKey": secret}]
    assert len(secret) >= 40
    assert (tmp_path / "credentials").read_text() == credentials
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "credentials": 0o640,
        "s3.json": 0o640,
    }
    assert secret not in first.stdout + first.stderr + second.stdout + second.stderr


def test_what_moves_is_healthy_and_what_stands_still_is_not(tmp_path: Path) -> None:
    status, seen = tmp_path / "status", tmp_path / "seen"
    look = runpy.run_path(str(DOCKER / "moving.py"))["main"]

    def at(waits: int) -> int:
        status.write_text(f"Name:\telastic\nvoluntary_ctxt_switches:\t{waits}\nnonvoluntary_ctxt_switches:\t7\n")
        return int(look(status, seen))

    assert [at(5), at(9), at(9), at(9), at(10)] == [0, 0, 1, 1, 0]
