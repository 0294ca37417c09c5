"""A terminal for tests: a real pseudo-terminal, and what a person would see on it."""

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable

from tests.cli.conftest import command_line

BOUND_S = 60.0
_TOKENS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n])")
# Opening the terminal makes it the controlling one of the new session, so that Ctrl-C typed into it is a signal.
_ON_TERMINAL = 'exec < "$(tty)"; stty cols "$1" rows 40; shift; exec "$@"'


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, with a bound."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {BOUND_S:g} s: {what}"
        time.sleep(0.02)


def screen_of(written: str, columns: int) -> list[str]:
    """What is on the screen after a terminal of so many columns was sent this; it knows what Rich's Live view uses."""
    lines, row, column = [""], 0, 0
    for match in _TOKENS.finditer(written):
        argument, command, is_return, is_newline, character = match.groups()
        if command == "A":
            row = max(0, row - int(argument or 1))
        elif command == "K":
            lines[row] = ""
        elif is_return:
            column = 0
        elif is_newline:
            row += 1
        elif character:
            if column == columns:  # a terminal wraps only when there is something to wrap
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines]


class Terminal:
    """A command on a terminal of a given width, and everything that it wrote there."""

    def __init__(self, *arguments: str, columns: int = 100, env: dict[str, str] | None = None) -> None:
        self._columns = columns
        self._master, slave = pty.openpty()
        plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            ["sh", "-c", _ON_TERMINAL, "sh", str(columns), *command_line(*arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**plain, "TERM": "xterm-256color", **(env or {})},
            start_new_session=True,
        )
        os.close(slave)
        self._data = b""

    @property
    def written(self) -> str:
        """All that was written until now, control sequences included."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the other side is closed
                break
            self._data += data
        return self._data.decode(errors="replace")

    def screen(self) -> list[str]:
        """The lines that a person sees."""
        return screen_of(self.written, self._columns)

    def wait_for(self, text: str) -> None:
        """Wait until a text was written."""
        wait_until(lambda: text in self.written, f"{text!r} on the terminal")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def finish(self) -> int:
        """Wait for the command to end; its exit code."""
        wait_until(lambda: bool(self.written) and self.process.poll() is not None, "the command ends")
        return self.process.wait()
