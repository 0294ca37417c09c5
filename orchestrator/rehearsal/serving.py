"""Servers that others wrote, each in a process that ends with whoever started it.

`python serving.py COMMAND...` runs a command until it ends by itself or the standard input is closed, which the system
does when the starter dies, however it dies.
"""

import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

START_BOUND_S = 60.0
START_TRIES = 3


class ServerDown(Exception):
    """A server did not come up; what it printed is in the message."""


def executable(name: str) -> str | None:
    """Where a command is: beside this Python, where wheels put theirs, or on the PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def free_ports(count: int) -> list[int]:
    """So many loopback ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def serving(
    command: Callable[[Path, Sequence[int]], Sequence[str]],
    ports: int,
    health: str,
    environ: Mapping[str, str],
) -> Iterator[str]:
    """Run a server in a new directory and give its URL, that of the first port, once it answers at `health`.

    `command` makes the command line from the directory and the ports. Somebody else may take a port before the server
    does; it then ends at once, and is started again on others. Raises ServerDown.
    """
    for attempt in range(1, START_TRIES + 1):
        with TemporaryDirectory(prefix="elastic-server-", ignore_cleanup_errors=True) as name:
            directory, numbers = Path(name), free_ports(ports)
            url = f"http://127.0.0.1:{numbers[0]}"
            log = directory / "server.log"
            with guarded(command(directory, numbers), environ, log) as server:
                if _answers(url + health, server):
                    yield url
                    return
            if attempt == START_TRIES:
                raise ServerDown(f"no server after {START_TRIES} tries:\n{log.read_text()[-3000:]}")


@contextmanager
def guarded(command: Sequence[str], environ: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of this command under a guard that ends it when this process is gone."""
    with log.open("wb") as output:
        guard = subprocess.Popen(
            [sys.executable, __file__, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=dict(environ),
            start_new_session=True,  # Ctrl-C is for who started it, who ends it in order
        )
    try:
        yield guard
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(START_BOUND_S)


def _answers(url: str, server: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server answers; False when it has ended or does not in time."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    give_up_s = time.monotonic() + START_BOUND_S
    while server.poll() is None and time.monotonic() < give_up_s:
        try:
            with direct.open(url, timeout=5):
                return True
        except urllib.error.HTTPError as error:
            if error.code < 500:  # it speaks, if only to refuse an unsigned request
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def _guard(command: Sequence[str]) -> int:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end_it() -> None:
        sys.stdin.buffer.read()
        child.kill()

    threading.Thread(target=end_it, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
