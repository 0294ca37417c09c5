"""`command` in job.yaml: a program of the person's own, which runs instead of elastic's trainer. Pure.

A command is a list and never a line: no shell reads it, so nobody has to know how one would take the spaces and quotes
in an argument.
"""

import math
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, JsonValue, WithJsonSchema
from pydantic_core import PydanticCustomError

from orchestrator.spec.names import looks_secret
from orchestrator.spec.places import SecretMisfit, is_url
from trainer.config import Misfit

_OPTION = re.compile(r"--?([A-Za-z][A-Za-z0-9_-]*)(=.*)?", re.DOTALL)
# A vocabulary's own words, such as pad_token: what is called so opens no door.
_OF_A_VOCABULARY = re.compile(
    r"(?<![a-z0-9])(pad|bos|eos|sos|eot|eod|unk|cls|class|sep|mask|start|stop|end|special|image|max|min|num|per)"
    r"_tokens?(?![a-z0-9])",
    re.IGNORECASE,
)
_DESCRIBED_CHARACTERS = 100
_NO_SECRET = (
    "looks like a secret, and whoever can read the bucket can read it here; "
    "give your program its rights by the role of its instance, or by a file on it"
)


def _listed(command: Any) -> Any:
    """A line is no list: say how it is written as one."""
    if not isinstance(command, str):
        return command
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    example = f"[{', '.join(words[:4])}{', ...' if len(words) > 4 else ''}]" if words else "[python, train.py]"
    raise PydanticCustomError(
        "command_line", "must be a list, for no shell reads it: write {example}", {"example": example}
    )


Argument = Annotated[str, Field(pattern=r"^[^\x00]*$")]
# A list is as good as a tuple from Python.
Command = Annotated[tuple[Argument, ...], Field(min_length=1, strict=False), BeforeValidator(_listed)]
Config = Annotated[dict[str, JsonValue], WithJsonSchema({"type": "object", "additionalProperties": True})]


def command_misfits(command: tuple[str, ...]) -> Iterator[Misfit]:
    """What cannot be a program, or should not be written down."""
    if not command[0].strip():
        yield Misfit((("command", 0),), "must be a program, such as python")
    for i, argument in enumerate(command):
        option = _OPTION.fullmatch(argument)
        if option is not None and _names_a_secret(option[1].replace("-", "_")):
            yield SecretMisfit((("command", i),), _NO_SECRET)


def config_misfits(config: Config) -> Iterator[Misfit]:
    """What should not be written down, or is no JSON, at any depth."""
    for path, value in _leaves(config, ("config",)):
        if isinstance(value, float) and not math.isfinite(value):
            yield Misfit((path,), "must be a finite number")
        elif isinstance(value, str) and isinstance(path[-1], str) and _names_a_secret(path[-1]):
            yield SecretMisfit((path,), _NO_SECRET)


def _names_a_secret(name: str) -> bool:
    return looks_secret(_OF_A_VOCABULARY.sub("", name))


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Each value that holds no others, with its path."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _leaves(child, (*path, name))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            yield from _leaves(child, (*path, i))
    else:
        yield path, value


def working_dir_misfits(working_dir: str, *, in_image: bool) -> Iterator[Misfit]:
    """What is no directory of an instance or, with `in_image`, of an image, as far as its name tells."""
    if is_url(working_dir) or "\0" in working_dir or not working_dir.strip():
        yield Misfit((("working_dir",),), "must be a directory where the program runs, such as src or /app")
    elif in_image and not working_dir.startswith("/"):
        message = "must be a path of the image from its root, such as /app, for the program runs in a container"
        yield Misfit((("working_dir",), ("resources", "image")), message)


def absolute_working_dir(working_dir: str | None, base: Path) -> str:
    """The directory where a program of this machine works: paths in job.yaml begin at `base`."""
    return os.path.realpath(base / Path(working_dir or ".").expanduser())


def described_command(command: tuple[str, ...]) -> str:
    """It as a person would type it, on one line that is not too long, without the directory of its program."""
    line = " ".join(shlex.join([Path(command[0]).name, *command[1:]]).split())
    return line if len(line) <= _DESCRIBED_CHARACTERS else f"{line[: _DESCRIBED_CHARACTERS - 1].rstrip()}…"
