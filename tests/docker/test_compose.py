"""compose.yaml: one command, and a job submitted to it trains in a container beside the agent."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from orchestrator.fleets.pool.host import DRAIN_WITHIN_S, LAST_WORD_WITHIN_S
from orchestrator.rehearsal.serving import executable, free_ports
from tests.support.docker_engine import Engine, compose_command
from tests.support.docker_images import DOCKER, Images
from tests.support.waiting import wait_until
from tests.survival.system import TRAINING

BOUND_S = 900.0
PROJECT = "elastic-tests"
FILES = ("compose.yaml", "compose.gpu.yaml")

pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True)
class Installation:
    """What compose.yaml has started."""

    environ: dict[str, str]
    dashboard_port: int

    def compose(self, *arguments: str, given: str | None = None) -> str:
        answer = subprocess.run(
            [*(compose_command() or ()), "--project-name", PROJECT, "--file", str(DOCKER / "compose.yaml"), *arguments],
            env=self.environ,
            input=given,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
        assert answer.returncode == 0, f"compose {' '.join(arguments)}: {answer.stdout[-3000:]}{answer.stderr[-3000:]}"
        return answer.stdout

    def elastic(self, *arguments: str, given: str | None = None) -> str:
        return self.compose("exec", "-T", "controller", "elastic", *arguments, given=given)


@pytest.fixture
def seaweed_image(docker_engine: Engine, tmp_path: Path) -> str:
    """SeaweedFS in an image, as its makers' has it: a command `weed`."""
    weed = executable("weed")
    assert weed is not None
    shutil.copy(weed, tmp_path / "weed")
    (tmp_path / "Dockerfile").write_text(f"FROM {docker_engine.base}\nCOPY weed /usr/bin/weed\nVOLUME /data\n")
    name = "elastic-tests/seaweedfs:latest"
    docker_engine.docker("build", "--tag", name, tmp_path, DOCKER_BUILDKIT="0")
    return name


@pytest.fixture
def installation(docker_engine: Engine, images: Images, seaweed_image: str, tmp_path: Path) -> Iterator[Installation]:
    """All of compose.yaml, up, with the images of the tests; and away again."""
    (port,) = free_ports(1)
    settings = {
        "ELASTIC_DASHBOARD_PORT": str(port),
        "ELASTIC_CONTROLLER_IMAGE": images.controller,
        "ELASTIC_SEAWEEDFS_IMAGE": seaweed_image,
        "ELASTIC_DOCKER_SOCKET": docker_engine.host.removeprefix("unix://"),
        "ELASTIC_DIRECTORY": str(tmp_path / "elastic"),
        "ELASTIC_MACHINE": "box",
    }
    installation = Installation({**os.environ, **settings}, port)
    try:
        installation.compose("up", "--detach", "--no-build")
        yield installation
    finally:
        installation.compose("down", "--volumes", "--timeout", "60")


PRINT_PAGE = """
import sys, urllib.request
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(direct.open(sys.argv[1], timeout=30).read().decode())
"""


def page(engine: Engine, installation: Installation, path: str) -> str:
    """What the dashboard answers to the machine that all of this runs on."""
    url = f"http://127.0.0.1:{installation.dashboard_port}{path}"
    return engine.on_its_machine(sys.executable, "-c", PRINT_PAGE, url)


def health_of(engine: Engine, container: str) -> str:
    return engine.docker("inspect", "--format", "{{.State.Health.Status}}", container)


@pytest.mark.requires("docker", "compose", "seaweedfs")
def test_one_command_and_a_job_trains_in_a_container_beside_the_agent(
    installation: Installation, docker_engine: Engine, images: Images
) -> None:
    job = {
        "name": "private",
        "training": {**TRAINING, "steps": 20},
        "resources": {"fleet": "pool", "image": images.trainer, "ladder": [{"workers": 1}]},
    }

    installation.elastic("submit", "-", "--no-daemon", given=json.dumps(job))
    installation.elastic("wait", "private", "--timeout", "10m")

    shown = json.loads(installation.elastic("show", "private", "--output", "json"))
    assert "succeeded" in json.dumps(shown)
    assert "<title>elastic</title>" in page(docker_engine, installation, "/")
    (row,) = json.loads(page(docker_engine, installation, "/data/overview"))["page"]["jobs"]
    assert (row["name"], row["phase"], row["steps"]) == ("private", "succeeded", "20 of 20")
    (dashboard,) = docker_engine.docker(
        "ps", "--quiet", "--filter", "label=com.docker.compose.service=dashboard"
    ).split()
    wait_until(lambda: health_of(docker_engine, dashboard) == "healthy", "the dashboard is healthy", bound_s=60)
    machines = json.loads(installation.elastic("pool", "--output", "json"))
    assert "box" in json.dumps(machines)
    assert docker_engine.docker("ps", "--all", "--quiet", "--filter", "label=elastic.rank") == ""


@pytest.mark.requires("docker", "compose", "seaweedfs")
def test_nobody_but_this_machine_reaches_it_and_no_key_is_told(
    installation: Installation, docker_engine: Engine
) -> None:
    (secret,) = re.findall(
        r"aws_secret_access_key = (\S+)", installation.compose("exec", "-T", "controller", "cat", "/keys/credentials")
    )
    containers = docker_engine.docker("ps", "--all", "--quiet").split()
    inspected = json.loads(docker_engine.docker("inspect", *containers))
    published = [
        each for one in inspected for ports in (one["HostConfig"]["PortBindings"] or {}).values() for each in ports
    ]

    assert {each["HostIp"] for each in published} == {"127.0.0.1"}
    assert secret not in json.dumps(inspected)
    assert secret not in "".join(docker_engine.docker("logs", container) for container in containers)


def test_what_is_pinned_and_bound_in_the_files() -> None:
    services = {name: YAML(typ="safe").load(DOCKER / name)["services"] for name in FILES}
    ports = [port for service in services["compose.yaml"].values() for port in service.get("ports", ())]

    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    assert services["compose.gpu.yaml"].keys() == {"agent"}
    for service in services["compose.yaml"].values():
        assert service["cap_drop"] == ["ALL"]
        assert not re.search(r":latest|^[^:]+$", service["image"].rsplit("-", 1)[-1].rstrip("}"))


def test_the_agent_is_given_the_time_that_what_runs_there_needs_to_commit() -> None:
    agent = YAML(typ="safe").load(DOCKER / "compose.yaml")["services"]["agent"]

    assert float(agent["stop_grace_period"].removesuffix("s")) >= DRAIN_WITHIN_S + LAST_WORD_WITHIN_S
