"""Draws the README's pictures of the demo from a real run in a terminal.

    uv run python -m benchmarks.record_demo examples/

writes demo-running.svg, the terminal at three quarters of the run, and demo-end.svg, the terminal after it. The run has
a store and a home of its own, and nothing of it is left behind.
"""

import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from benchmarks.place import Place
from benchmarks.screen import Screen

COMMAND = ("elastic", "submit", "examples/digits.yaml", "--follow")
COLUMNS, ROWS = 104, 50
SHARE_SHOWN = 75
"""Of the steps, in percent: where the picture of the running job is taken."""

_SHARE = re.compile(r"(\d+) ?%.{0,20}ETA")
_DARK = TerminalTheme(
    background=(22, 24, 29),
    foreground=(208, 212, 220),
    normal=[
        *((62, 68, 81), (224, 108, 117), (140, 200, 120), (229, 192, 103)),
        *((97, 165, 239), (198, 120, 221), (86, 190, 205), (171, 178, 191)),
    ],
    bright=[
        *((124, 132, 148), (240, 130, 138), (160, 220, 140), (240, 210, 130)),
        *((130, 190, 250), (215, 150, 235), (120, 210, 222), (255, 255, 255)),
    ],
)


def main() -> int:
    """Record and draw; returns the exit code of the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where the two pictures go")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="also keep the terminal's raw output here")
    parser.add_argument("--from", dest="recorded", type=Path, metavar="FILE", help="draw what was kept, run nothing")
    given = parser.parse_args()
    if given.recorded:
        code, output = 0, given.recorded.read_bytes().decode()
    else:
        with tempfile.TemporaryDirectory(prefix="elastic-") as root, Place.below(Path(root)) as place:
            code, output = record(place)
            output = output.replace(f"{root}/state", "~/.local/state")
    if given.keep:
        given.keep.write_bytes(output.encode())
    running, end = pictures(output)
    draw(running, given.directory / "demo-running.svg")
    draw(end, given.directory / "demo-end.svg")
    return code


def record(place: Place) -> tuple[int, str]:
    """Run the demo in a terminal of its own; returns its exit code and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environ = place.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "orchestrator.cli.main", *COMMAND[1:]]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, close_fds=True)
    os.close(theirs)
    output = b"".join(_read_all(ours))
    os.close(ours)
    return process.wait(), output.decode()


def pictures(output: str) -> tuple[list[str], list[str]]:
    """The lines on the terminal at SHARE_SHOWN of the run, and at its end."""
    screen, running = Screen(), None
    for frame in re.split(r"(?=\x1b\[\d+A|\r\x1b\[2K)", output):
        screen.feed(frame)
        share = max((int(found[1]) for line in screen.lines if (found := _SHARE.search(plain(line)))), default=0)
        if running is None and share >= SHARE_SHOWN:
            running = screen.lines
    if running is None:
        raise SystemExit(f"no picture shows {SHARE_SHOWN} % of the run; the terminal ended with:\n{screen.lines[-3:]}")
    return running, screen.lines


def draw(lines: list[str], path: Path) -> None:
    """One terminal window as SVG, under the command that was typed."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "bold green"), (" ".join(COMMAND), "bold")))
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    console.print()  # Rich cuts the lower ends of the last line's letters
    path.write_text(console.export_svg(title="elastic", theme=_DARK, code_format=_without_web_fonts()))


def _without_web_fonts() -> str:
    """Rich's frame, with the reader's own fonts: a page that shows an image lets it fetch nothing."""
    own = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    return re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
        "Fira Code, monospace", own
    )


def plain(line: str) -> str:
    """A line without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def _read_all(terminal: int) -> Iterator[bytes]:
    """Whatever is written to a terminal, until its last writer is gone."""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            return
        if not data:
            return
        yield data


if __name__ == "__main__":
    sys.exit(main())
