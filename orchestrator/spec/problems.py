"""A mistake in a job.yaml, and how it is shown: like a compiler, with the line and a mark below it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import UsageError

Path = tuple[str | int, ...]
"""Where a value sits: ('resources', 'ladder', 0, 'workers')."""

_WIDEST_LINE = 110
_ADDRESS_WITH_SECRET = re.compile(
    r"(?<![A-Za-z0-9])((?:[A-Za-z][A-Za-z0-9+.-]*:/+|[sS]3:)/*)(.*@\S*|[^\s/]*:\S*|\S*\?\S*)"
)
"""An address in which credentials may be, as `orchestrator.spec.places` refuses them."""


def dotted(path: Path) -> str:
    """A path as people write it: resources.ladder.0.workers."""
    return ".".join(str(part) for part in path)


def _tame(text: str) -> str:
    """Text of which a terminal obeys nothing, and in which a tab does not move the mark."""
    return "".join(char if char.isprintable() else " " for char in text)


def _masked(text: str) -> str:
    """The text without what may be a secret, whatever it is shown for; as long as it was, so that the mark is right."""
    return _ADDRESS_WITH_SECRET.sub(lambda found: found[1] + "*" * len(found[2]), text)


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of one line, both counted from 1."""

    line: int
    column: int
    width: int = 1


@dataclass(frozen=True)
class Problem:
    """One mistake: where, what, and what to do about it.

    `source` is the file, or the `--set` argument that brought the value; only a file has a span and a line to show.
    """

    source: str
    message: str
    field: str = ""
    span: Span | None = None
    line: str = ""

    def __str__(self) -> str:
        at = f":{self.span.line}:{self.span.column}" if self.span else ""
        field = f"{self.field}: " if self.field else ""
        head = _tame(f"{_masked(self.source)}{at}: {field}{self.message}")
        return f"{head}\n{self._marked_line(self.span)}" if self.span and self.line else head

    def _marked_line(self, span: Span) -> str:
        start = max(0, span.column + min(span.width, 40) - _WIDEST_LINE)
        shown = _tame(_masked(self.line)[start : start + _WIDEST_LINE])
        before = span.column - 1 - start
        width = max(1, min(span.width, len(shown) - before))
        number = f"{span.line:>5}"
        return f"{number} | {shown}\n{' ' * len(number)} | {' ' * before}{'^' * width}"


class SpecError(UsageError):
    """A job.yaml that cannot be used, with everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
