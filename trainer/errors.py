"""Errors that reach a person: one sentence each that says what, where and what to do."""

from collections.abc import Sequence
from typing import ClassVar


def printable(text: str) -> str:
    """Text of which a terminal obeys nothing."""
    return "".join(character if character.isprintable() else " " for character in text)


def first_few(texts: Sequence[str], most: int) -> str:
    """So many of them, and how many more there are."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


class TrainerError(Exception):
    """The run cannot go on; its message is for a person, so no traceback is shown."""

    exit_code: ClassVar[int] = 1


class ConfigError(TrainerError):
    """What was asked for cannot be done as written."""

    exit_code: ClassVar[int] = 2


class OutOfMemory(ConfigError):
    """A pass does not fit into the device's memory."""


class Unavailable(ConfigError):
    """What was asked for cannot be had just now, a network being away or a disk full: it may be worth a new try."""

    exit_code: ClassVar[int] = 1


class CheckpointRefused(ConfigError):
    """The checkpoint to resume from is damaged or belongs to another run."""


class CheckpointFailed(TrainerError):
    """A checkpoint could not be written."""


class Diverged(TrainerError):
    """The loss is no number any more: the same run would come to the same again."""

    exit_code: ClassVar[int] = 4
