"""containerd and dockerd in a directory and a network namespace of their own, held by whoever calls `serve`.

The namespace and all bridges in it go with the last of its processes. Mounts are in the machine's own namespace, for
the workers' run directories are the machine's, and are taken away at the end.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, TextIO

import psutil

_BOUND_S: Final = 120.0
_IN_A_NETWORK_OF_ITS_OWN: Final = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")

_WITHOUT_KUBERNETES: Final = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
"""That plugin listens on a port, and nobody needs it."""


def serve(orders: TextIO, answers: TextIO) -> None:
    """Run an engine, say where it is, and obey `stop` and `start`, a line each, until the orders end."""

    def answer(line: str) -> None:
        print(line, file=answers, flush=True)

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end of the orders is the end
    # Not below the directory of the tests: a unix socket's path has 107 characters at most.
    directory = Path(tempfile.mkdtemp(prefix="elastic-docker-", dir="/tmp"))
    engine = OwnEngine(directory)
    try:
        engine.start()
        answer(engine.host)
        for order in orders:
            {"stop": engine.stop, "start": engine.start}[order.strip()]()
            answer("done")
    except EngineDown as error:
        answer(str(error).replace("\n", " | "))
    finally:
        engine.end()


class EngineDown(Exception):
    """The engine does not come up, or does not end; what it printed last is in the message."""


class OwnEngine:
    """An engine in a directory: `start`, `stop` as often as one likes, `end` once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "docker.sock"
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """As in DOCKER_HOST."""
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Start what does not run, and wait until the engine answers. Raises EngineDown."""
        place = self._directory
        containerd = place / "containerd.sock"
        if self._containerd is None:
            settings = place / "containerd.toml"
            settings.write_text(_WITHOUT_KUBERNETES)
            command = [
                "containerd",
                "--config",
                settings,
                "--root",
                place / "containerd",
                "--state",
                place / "containerd-state",
            ]
            command += ["--address", containerd, "--log-level", "warn"]
            self._containerd = self._run("containerd", [*_IN_A_NETWORK_OF_ITS_OWN, *map(str, command)])
            self._wait(containerd.exists, "containerd")
        network = f"--net=/proc/{self._containerd.pid}/ns/net"
        command = ["dockerd", "--containerd", containerd, "--live-restore", "--data-root", place / "data"]
        command += ["--exec-root", place / "exec", "--pidfile", place / "docker.pid", "--host", self.host]
        self._dockerd = self._run("dockerd", ["nsenter", network, "--", *map(str, command)])
        self._wait(self._answers, "dockerd")

    def stop(self) -> None:
        """End the engine and leave its containers."""
        if self._dockerd is not None:
            self._dockerd.terminate()
            self._dockerd.wait(_BOUND_S)
            self._dockerd = None

    def end(self) -> None:
        """End the containers, the engine and containerd, and leave nothing of them."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._remove_containers()
        for process in (self._dockerd, self._containerd):
            if process is not None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_BOUND_S)
                process.kill()
                process.wait()
        self._kill_shims()
        for mount in sorted(self._mounts(), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self, name: str, command: list[str]) -> "subprocess.Popen[bytes]":
        with open(self._directory / f"{name}.log", "ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait(self, condition: object, name: str) -> None:
        give_up_s = time.monotonic() + _BOUND_S
        process = self._containerd if name == "containerd" else self._dockerd
        assert process is not None and callable(condition)
        while not condition():
            if process.poll() is not None or time.monotonic() > give_up_s:
                said = (self._directory / f"{name}.log").read_text(errors="replace")[-2000:]
                raise EngineDown(f"{name} did not come up: {said}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        asked = ["docker", "--host", self.host, "version"]
        return self._socket.exists() and subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def _remove_containers(self) -> None:
        if self._dockerd is None or self._dockerd.poll() is not None:
            return
        docker = ["docker", "--host", self.host]
        listed = subprocess.run([*docker, "ps", "-aq"], capture_output=True, text=True, check=False, timeout=_BOUND_S)
        if ids := listed.stdout.split():
            subprocess.run([*docker, "rm", "-fv", *ids], capture_output=True, check=False, timeout=_BOUND_S)

    def _kill_shims(self) -> None:
        """A container's shim outlives containerd, and the container it."""
        for shim in psutil.process_iter(["cmdline"]):
            if str(self._directory / "containerd.sock") in " ".join(shim.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    for process in [*shim.children(recursive=True), shim]:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            process.kill()

    def _mounts(self) -> list[str]:
        below = f"{os.path.realpath(self._directory)}/"
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [fields[1] for line in lines if (fields := line.split())[1].startswith(below)]
