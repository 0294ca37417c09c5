"""The images as they are built: what is in them, what is not, and that they do what they are for."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_engine import Engine
from tests.support.docker_images import Images, build
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.requires("docker"), pytest.mark.timeout(1800)]

CONTROLLER_BOUND_BYTES = 250e6
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL")
HOME = ("--tmpfs", "/home/elastic:mode=700,uid=10001,gid=10001")


def inspected(engine: Engine, image: str) -> dict[str, Any]:
    (found,) = json.loads(engine.docker("image", "inspect", image))
    return dict(found)


@pytest.fixture
def daemon(docker_engine: Engine, images: Images) -> Iterator[str]:
    """A controller on a store of its own, inside its container."""
    options = [*HARDENED, *HOME, "--env", "ELASTIC_STORE=file:///tmp/store"]
    container = docker_engine.docker("run", "--detach", *options, images.controller)
    yield container
    docker_engine.docker("rm", "--force", container)


def test_the_controllers_image_is_small_and_has_no_torch(docker_engine: Engine, images: Images) -> None:
    sizes = {image: inspected(docker_engine, image)["Size"] for image in (images.base, images.controller)}
    packages = "/opt/elastic/lib/python3.11/site-packages"
    listed = docker_engine.docker("run", "--rm", "--entrypoint", "ls", images.controller, packages)

    assert sizes[images.controller] - sizes[images.base] < CONTROLLER_BOUND_BYTES
    assert "orchestrator" in listed.split()
    assert not {"torch", "sklearn", "pip", "hatchling"} & set(listed.split())


@pytest.mark.parametrize("name", ["controller", "trainer"])
def test_an_image_says_what_it_is_and_runs_as_nobody(name: str, docker_engine: Engine, images: Images) -> None:
    config = inspected(docker_engine, getattr(images, name))["Config"]

    assert config["User"] == "10001:10001"
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == f"elastic {name}"
    assert {"description", "licenses", "version", "revision"} <= labels.keys()
    assert not [each for each in config["Env"] if "SECRET" in each or "PASSWORD" in each]


def test_the_command_runs_read_only_and_without_network(docker_engine: Engine, images: Images) -> None:
    said = docker_engine.docker("run", "--rm", *HARDENED, images.controller, "version", "--output", "json")

    versions = json.loads(said)
    assert versions["elastic"] == "0.1.0"
    assert versions["torch"] == "not installed"


def test_all_that_a_controller_and_an_agent_import_is_there(docker_engine: Engine, images: Images) -> None:
    program = """
import importlib, pkgutil, orchestrator
for module in pkgutil.walk_packages(orchestrator.__path__, "orchestrator."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(module.name, error.name)
"""
    said = docker_engine.docker(
        "run", "--rm", *HARDENED, "--entrypoint", "python", images.controller, "-c", program
    ).splitlines()

    missing = [line.split() for line in said]
    assert all(name in ("torch", "moto") for _, name in missing), said
    # What needs torch runs only where ranks are processes; what needs moto belongs to `elastic rehearse`.
    assert {module for module, name in missing if name == "torch"} <= {"orchestrator.agent.fixed_ranks"}
    assert all(module.startswith("orchestrator.rehearsal.") for module, name in missing if name == "moto"), said


def test_a_daemon_is_healthy_until_it_stands_still_and_ends_when_asked(docker_engine: Engine, daemon: str) -> None:
    def look() -> str:
        script = "python3 /opt/elastic/share/elastic/moving.py; echo $?"
        return docker_engine.docker("exec", daemon, "sh", "-c", script).splitlines()[-1]

    wait_until(lambda: "daemon 1 on" in docker_engine.docker("logs", daemon), "the daemon runs", bound_s=300)
    look()
    wait_until(lambda: look() == "0", "it moves")
    docker_engine.docker("kill", "--signal", "STOP", daemon)
    look()
    assert look() == "1"
    docker_engine.docker("kill", "--signal", "CONT", daemon)
    wait_until(lambda: look() == "0", "it moves again")

    docker_engine.docker("stop", "--time", "30", daemon)

    assert docker_engine.docker("inspect", "--format", "{{.State.ExitCode}}", daemon) == "0"
    assert docker_engine.docker("logs", daemon).splitlines()[-1].endswith("ended")


def test_the_trainers_image_trains(docker_engine: Engine, images: Images, tmp_path: Path) -> None:
    config = {"dataset": "digits", "labels": 50, "steps": 2, "batch": 16, "labelled_batch": 8, "shards": 2}
    tmp_path.chmod(0o777)
    (tmp_path / "config.json").write_text(json.dumps(config))
    run = ["python", "-m", "trainer", "/run/job/config.json", "/run/job"]

    docker_engine.docker("run", "--rm", *HARDENED, "--volume", f"{tmp_path}:/run/job", images.trainer, *run)

    steps = [json.loads(line).get("step") for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert max(step for step in steps if step is not None) == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000000002"]


def contents(engine: Engine, image: str, of_base: int, into: Path) -> list[tuple[str, int, int, int, float, str]]:
    """What the layers over the base hold, byte for byte; the builder itself stamps directories with the time."""
    saved = into / "image.tar"
    engine.docker("save", "--output", str(saved), image)
    found = []
    with tarfile.open(saved) as whole:
        (manifest,) = json.loads(read(whole, "manifest.json"))
        for name in manifest["Layers"][of_base:]:
            with tarfile.open(fileobj=io.BytesIO(read(whole, name))) as layer:
                for entry in layer:
                    body = hashlib.sha256(read(layer, entry.name)).hexdigest() if entry.isfile() else entry.linkname
                    time = 0.0 if entry.isdir() else entry.mtime
                    found.append((entry.name, entry.mode, entry.uid, entry.gid, time, body))
    saved.unlink()
    return found


def read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def test_two_builds_are_the_same_bytes(docker_engine: Engine, images: Images, tmp_path: Path) -> None:
    of_base = len(inspected(docker_engine, images.base)["RootFS"]["Layers"])
    again = build(docker_engine, "controller", images.base, "elastic-tests/controller:again", "--no-cache")
    try:
        first, second = (contents(docker_engine, image, of_base, tmp_path) for image in (images.controller, again))
        assert len(first) > 1000
        assert first == second
    finally:
        docker_engine.docker("image", "rm", again)
