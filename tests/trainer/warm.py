"""Trainer processes that do not import torch: each is forked from one that has, which saves the seconds of every start.

`python -m tests.trainer.warm` reads an order a line on standard input and answers each by a line: fork a process, or
tell how one has ended. It ends with whoever started it, and what it has forked is that one's affair.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

TRAINER = "import runpy; runpy.run_module('trainer', run_name='__main__', alter_sys=True)"
"""What `python -m trainer` does."""


class WarmStart:
    """The process that is forked from, started when it is first used. One thread at a time may use it."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(self, code: str, arguments: Sequence[str], environ: Mapping[str, str], output: Path) -> "Forked":
        """Run Python code in a new process, as `python -c CODE ARGUMENTS` would."""
        order = {"code": code, "arguments": list(arguments), "environ": dict(environ), "output": str(output)}
        return Forked(self, int(self.ask(order)))

    def ask(self, order: Mapping[str, Any]) -> Any:
        """Send one order and wait for its answer."""
        if self._server is None:
            command = [sys.executable, "-m", "tests.trainer.warm"]
            self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.communicate()


class Forked:
    """A forked process, with what tests use of `subprocess.Popen`."""

    def __init__(self, start: WarmStart, pid: int) -> None:
        self.pid = pid
        self._start = start
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None:
            self._code = self._start.ask({"ended": self.pid})
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit code."""
        give_up = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > give_up:
                raise subprocess.TimeoutExpired("a forked trainer", timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)  # its number cannot be another's: nobody has waited for it yet

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _serve() -> None:

    import trainer.loop
    import trainer.world  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        answer = _ended(order["ended"]) if "ended" in order else _fork(order)
        print(json.dumps(answer), flush=True)


def _ended(pid: int) -> int | None:
    waited, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if waited else None


def _fork(order: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        _become(order)
    return pid


def _become(order: Mapping[str, Any]) -> NoReturn:
    code = 1
    try:
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for ours, theirs in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(ours, theirs)
        os.environ.clear()
        os.environ.update(order["environ"])
        sys.argv = ["-c", *order["arguments"]]
        exec(compile(order["code"], "<code>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as Python does at the top of every program
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
