"""A Docker engine for the tests: the one that answers here, else one of the tests' own.

In a test: the fixture `docker_engine` gives an `Engine`, and DOCKER_HOST leads to it, for the test and what it starts.
Mark what uses it `@pytest.mark.requires("docker")`. A fixture of a module takes `session_engine` and its `environ`.

An engine of our own has everything to itself: its directory, its containerd, its unix socket, and its network
namespace, so that several test sessions do not share a bridge and nobody reaches its containers. Containers outlive a
restart of it (`--live-restore`). It belongs to a process, `python -m tests.support.docker_engine`, that ends it and
all it has started when its standard input is closed, which the system does however the tests end.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.isolation import CACHE_VARIABLE

BASE_RECIPE: Final = Path(__file__).parents[2] / "docker" / "base.sh"
_OWN_NEEDS: Final = ("dockerd", "containerd", "iptables", "unshare", "nsenter", "ip")
_DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
_ANSWER_BOUND_S: Final = 20.0
_END_BOUND_S: Final = 300.0  # gigabytes of images are removed


def answering_host() -> str | None:
    """Where a Docker engine answers already: DOCKER_HOST or the default socket; None where none does."""
    host = os.environ.get("DOCKER_HOST", _DEFAULT_HOST)
    asked = ["docker", "--host", host, "version", "--format", "{{.Server.Version}}"]
    try:
        answer = subprocess.run(asked, capture_output=True, timeout=_ANSWER_BOUND_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return host if answer.returncode == 0 else None


def missing() -> str | None:
    """Why there can be no Docker engine here; None: one answers, or one can be started."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    if not base_tar().exists() and shutil.which("mmdebstrap") is None:
        return "there is no mmdebstrap to make a base image with"
    if answering_host() is not None:
        return None
    if os.geteuid() != 0:
        return "no Docker engine answers, and starting one takes root"
    absent = [name for name in _OWN_NEEDS if shutil.which(name) is None]
    return f"no Docker engine answers, and there is no {', '.join(absent)} to start one" if absent else None


def compose_command() -> list[str] | None:
    """Docker's own plugin, or the command that was there before it; None: neither is."""
    for command in (["docker", "compose"], ["docker-compose"]):
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
                return command
    return None


def compose_missing() -> str | None:
    """Why compose.yaml cannot be run; None: it can."""
    return None if compose_command() is not None else "there is no docker compose, and no docker-compose"


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers, with an image of Debian and Python in it."""

    host: str
    """As in DOCKER_HOST."""
    base: str
    """An image with `python3`, nothing else to speak of; it is not to be removed."""
    process: "subprocess.Popen[str] | None" = None
    """Whoever holds an engine of our own; None: it is not ours to stop."""

    @property
    def environ(self) -> dict[str, str]:
        """What leads the docker command, the SDK and elastic to this engine."""
        return {"DOCKER_HOST": self.host}

    def docker(self, *arguments: str | Path, bound_s: float = 300.0, **environ: str) -> str:
        """What the docker command prints. Fails the test with what it printed when it fails."""
        answer = subprocess.run(
            ["docker", "--host", self.host, *map(str, arguments)],
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=bound_s,
            check=False,
        )
        if answer.returncode != 0:
            pytest.fail(f"docker {' '.join(map(str, arguments))} failed:\n{answer.stdout[-4000:]}", pytrace=False)
        return answer.stdout.strip()

    def on_its_machine(self, *command: str, bound_s: float = 60.0) -> str:
        """What a command prints that sees the loopback on which the engine publishes: ours has a network of its own."""
        enter: list[str] = []
        if self.process is not None:
            pid = (Path(self.host.removeprefix("unix://")).parent / "docker.pid").read_text().strip()
            enter = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
        answer = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=bound_s, check=False)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def stop(self) -> None:
        """End the engine; its containers run on."""
        self._order("stop")

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        self._order("start")

    def restart(self) -> None:
        """Both: whoever holds a connection loses it, and containers run on."""
        self._order("stop")
        self._order("start")

    def _order(self, order: str) -> None:
        if self.process is None:
            pytest.skip("the Docker engine here is not the tests' own to stop")
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer == "done", f"the engine's process says {answer!r} to {order}"


def base_tar() -> Path:
    """Where the base image is kept from one session of tests to the next, by what its recipe says."""
    digest = hashlib.sha256(BASE_RECIPE.read_bytes()).hexdigest()[:12]
    return cache_directory() / f"base-{digest}.tar"


def cache_directory() -> Path:
    """A directory of the user's that outlives the tests."""
    return Path(os.environ[CACHE_VARIABLE])


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock beside this path: what takes long is made by one session and found by the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_base() -> Path:
    path = base_tar()
    with only_one(path):
        if not path.exists():
            half = path.with_suffix(".half.tar")
            subprocess.run([BASE_RECIPE, half], check=True, stdout=sys.stderr)
            half.rename(path)
    return path


def _with_base(engine: Engine) -> Engine:
    """Import the base, unless the engine has it."""
    known = engine.docker("image", "ls", "--quiet", engine.base)
    if not known:
        engine.docker("import", _make_base(), engine.base)
    return engine


@contextmanager
def running_engine(environ: Mapping[str, str]) -> Iterator[Engine]:
    """The engine that answers here, or one that is started for the length of this context."""
    base = f"elastic-tests/base:{base_tar().stem.removeprefix('base-')}"
    if (host := answering_host()) is not None:
        yield _with_base(Engine(host, base))
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.docker_engine"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(environ),
        start_new_session=True,  # Ctrl-C is for the tests, which end it in order
    )
    try:
        assert process.stdout is not None
        answer = process.stdout.readline().strip()
        assert answer.startswith("unix://"), f"no Docker engine: {answer or 'it ended at once'}"
        yield _with_base(Engine(answer, base, process))
    finally:
        with contextlib.suppress(BrokenPipeError):
            assert process.stdin is not None
            process.stdin.close()
        process.wait(_END_BOUND_S)


@pytest.fixture(scope="session")
def session_engine() -> Iterator[Engine]:
    """A Docker engine for the whole session of tests. The environment does not lead to it yet."""
    with running_engine(os.environ) as engine:
        yield engine


@pytest.fixture
def docker_engine(session_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The Docker engine of the session, which the environment leads to during the test."""
    for name in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", session_engine.host)
    return session_engine


if __name__ == "__main__":
    from tests.support.docker_process import serve

    serve(sys.stdin, sys.stdout)
