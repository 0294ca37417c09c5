"""Data on stdout: as a table for people, as JSON, YAML or names for programs."""

import json
import re
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_TRAILING_BLANKS = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")
PIPED_WIDTH = 2_000
"""Columns when there is no terminal: Rich would cut names at 80."""


class Format(StrEnum):
    """How data is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"

    @property
    def for_people(self) -> bool:
        """Whether it is laid out for reading."""
        return self in (Format.TABLE, Format.WIDE)


def prose_console() -> "Console":
    """Rich on stderr."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(is_terminal: bool, stderr: bool = False) -> "Console":
    from rich.console import Console

    width = None if is_terminal else PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def emit(
    output: Format,
    *,
    data: Callable[[], Any],
    names: Callable[[], Iterable[str]],
    table: Callable[[], "RenderableType"],
) -> None:
    """Print data in the format asked for; each form is made only when it is the one."""
    match output:
        case Format.JSON:
            print(json.dumps(data(), indent=2, ensure_ascii=False))
        case Format.YAML:
            from orchestrator.reading.as_yaml import to_yaml

            print(to_yaml(data()), end="")
        case Format.NAME:
            for name in names():
                print(name)
        case _:
            print_for_people(table(), in_full=output is Format.WIDE)


def print_for_people(table: "RenderableType", *, in_full: bool = False) -> None:
    """Print what is laid out, without the blanks that Rich puts after the last column.

    It is fitted to the terminal; where there is none, or in full, every line is as long as it needs to be.
    """
    console = _console(is_terminal=sys.stdout.isatty() and not in_full)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(_TRAILING_BLANKS.sub(r"\1", line))
