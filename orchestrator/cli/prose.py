"""What is said to a person: on stderr, so that stdout stays data. Light on purpose: no Rich."""

import os
import sys
from typing import TextIO

from orchestrator.log_line import write_line

_CODES = {"bold": "1", "dim": "2", "red": "1;31", "yellow": "33", "green": "32", "cyan": "36"}


def styled(text: str, style: str, stream: TextIO) -> str:
    """The text in a style, if the stream is a terminal and nobody asked for none (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or stream.closed or not stream.isatty()
    return text if plain else f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def say(text: str) -> None:
    """A remark. One that cannot be written is left out: no command ends half done for the sake of its words."""
    write_line(text, sys.stderr)


def say_to_reader(text: str) -> None:
    """A remark of a command that goes on only for whoever reads it. Raises BrokenPipeError once nobody does."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError):  # a full disk; a stream that is closed
        return


def warn(text: str) -> None:
    """Something that may not be as the person expects; the command goes on."""
    say(f"{styled('warning:', 'yellow', sys.stderr)} {text}")


def complain(text: str) -> None:
    """Why the command failed."""
    say(f"{styled('error:', 'red', sys.stderr)} {text}")


def suggest(*next_steps: tuple[str, str]) -> None:
    """What to type next and what it is good for, each on a line of its own so that it can be copied."""
    width = max(len(command) for command, _ in next_steps)
    for command, what in next_steps:
        padding = " " * (width - len(command))
        say(f"  {styled(command, 'cyan', sys.stderr)}{padding}   {styled(what, 'dim', sys.stderr)}")


def on_terminal() -> bool:
    """Whether somebody can be asked: only then is there a prompt."""
    return sys.stdin.isatty() and sys.stderr.isatty()
