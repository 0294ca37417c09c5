"""The project's own images for the tests, built by the Dockerfiles in docker/ without any network.

pip on this machine downloads the wheels once, as it is configured here, into the cache directory of the tests; they lie
in a layer below the images, where pip is told to look for nothing else. In a test: the fixture `images`.
"""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.docker_engine import Engine, cache_directory, only_one

REPOSITORY: Final = Path(__file__).parents[2]
DOCKER: Final = REPOSITORY / "docker"
TORCH: Final = "torch==2.13.0"
"""What the trainer's image is built with here: whichever build of it pip finds first. A CPU suffices."""
BUILD_BOUND_S: Final = 900.0
_PYTHON: Final = "3.11"
"""Of the base image."""


@dataclass(frozen=True)
class Images:
    """Names of images that an engine has."""

    base: str
    """What the other two are built on."""
    controller: str
    trainer: str


def build(engine: Engine, name: str, base: str, tag: str, *options: str) -> str:
    """Build docker/NAME.Dockerfile as it would be by the oldest builder there is; gives its tag."""
    recipe = str(DOCKER / f"{name}.Dockerfile")
    arguments = ["--file", recipe, "--build-arg", f"BASE={base}", "--tag", tag, *options]
    engine.docker("build", "--network", "none", *arguments, REPOSITORY, bound_s=BUILD_BOUND_S, DOCKER_BUILDKIT="0")
    return tag


def base_with_wheels(engine: Engine) -> str:
    """The engine's base image with all wheels that the Dockerfiles ask for; made where the engine has none."""
    wheels = _wheels()
    name = f"elastic-tests/wheels:{wheels.name}"
    if not engine.docker("image", "ls", "--quiet", name):
        arguments = ["--build-arg", f"BASE={engine.base}", "--tag", name, str(wheels)]
        engine.docker("build", *arguments, bound_s=BUILD_BOUND_S, DOCKER_BUILDKIT="0")
    return name


def _wheels() -> Path:
    """The wheels, and a Dockerfile that puts them into an image."""
    wanted = [TORCH, "hatchling"]
    for name in ("controller", "trainer"):
        asked = [sys.executable, str(DOCKER / "dependencies.py"), name]
        wanted += subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    constraints = DOCKER / "constraints.txt"
    digest = hashlib.sha256("\n".join([*sorted(set(wanted)), constraints.read_text(), _DOCKERFILE]).encode())
    directory = cache_directory() / f"wheels-{digest.hexdigest()[:12]}"
    with only_one(directory):
        if not directory.exists():
            half = directory.with_suffix(".half")
            command = [str(_python_with_pip()), "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
            command += ["--python-version", _PYTHON, "--dest", str(half)]
            command += ["--constraint", str(constraints), *sorted(set(wanted))]
            subprocess.run(command, check=True, stdout=sys.stderr, timeout=BUILD_BOUND_S)
            (half / "Dockerfile").write_text(_DOCKERFILE)
            half.rename(directory)
    return directory


_DOCKERFILE: Final = r"""ARG BASE
FROM ${BASE}
COPY *.whl /wheels/
RUN printf '[global]\nno-index = true\nfind-links = /wheels\n' > /etc/pip.conf
"""


def _python_with_pip() -> Path:
    """The Python below the virtual environment, which need not have pip."""
    return Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="session")
def images(session_engine: Engine) -> Images:
    """The images of the controller and of the trainer, built for the whole session of tests."""
    base = base_with_wheels(session_engine)
    controller = build(session_engine, "controller", base, "elastic-tests/controller:latest")
    trainer = build(session_engine, "trainer", base, "elastic-tests/trainer:latest", "--build-arg", f"TORCH={TORCH}")
    return Images(base, controller, trainer)


@pytest.fixture(scope="session")
def libraries(session_engine: Engine, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the trainer's image has installed, taken out of it: a PYTHONPATH for processes."""
    place = tmp_path_factory.mktemp("libraries")
    container = session_engine.docker("create", images.trainer)
    try:
        installed = f"{container}:/opt/elastic/lib/python3.11/site-packages"
        session_engine.docker("cp", installed, place, bound_s=BUILD_BOUND_S)
    finally:
        session_engine.docker("rm", container)
    return place / "site-packages"
