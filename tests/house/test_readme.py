"""The README is what a new user reads first: what it names exists, and what it says to type can be typed."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from orchestrator.cli import exit_codes
from orchestrator.cli.app import app_for

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def typed() -> Iterator[list[str]]:
    """The `elastic` commands of the code blocks, in words."""
    for line in "".join(BLOCKS).splitlines():
        for command in line.split("&&"):
            words = shlex.split(command, comments=True)
            if words[:2] == ["uv", "run"]:
                words = words[2:]
            if words[:1] == ["elastic"] and words[1:2] != ["..."]:
                yield words[1:]


def test_the_first_commands_are_the_two_that_a_fresh_clone_needs() -> None:
    assert BLOCKS[0] == "pip install uv && uv run elastic submit examples/digits.yaml --follow\nuv run pytest\n"


@pytest.mark.parametrize("words", list(typed()), ids=" ".join)
def test_what_is_typed_can_be_parsed(words: list[str]) -> None:
    group = get_command(app_for([]))
    assert hasattr(group, "commands")
    command = group.commands[words[0]]
    command.make_context(words[0], words[1:])  # raises for options and arguments that are not there


def test_there_is_something_typed() -> None:
    assert len(list(typed())) > 10


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", README))))
def test_what_is_linked_is_there(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+\.py::test_\w+)`", README))))
def test_what_survives_is_tested(name: str) -> None:
    file, function = name.split("::")
    tree = ast.parse((ROOT / "tests" / "survival" / file).read_text())
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_the_exit_codes_are_those_of_the_command() -> None:
    rows = set(re.findall(r"^\| (\d+) \| (.+?) \|$", README, re.MULTILINE))
    assert rows == set(re.findall(r"^\| (\d+) \| (.+?) \|$", exit_codes.__doc__ or "", re.MULTILINE))
