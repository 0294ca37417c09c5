"""A table that is fitted to a narrow terminal by leaving out whole columns, for a cut name is of no use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

R = TypeVar("R")

_GAP = "  "
"""Between two columns."""


@dataclass(frozen=True)
class Column(Generic[R]):
    """A column and what stands in it."""

    title: str
    cell: Callable[[R, datetime], str | Text]
    numeric: bool = False
    spare: int = 0
    """Where there is no room for all columns, those with the highest number go first; 0: never."""


class FittedTable(Generic[R]):
    """A line for each row."""

    def __init__(self, rows: Sequence[R], columns: Sequence[Column[R]], now: datetime) -> None:
        self._rows = rows
        self._columns = columns
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [_Filled(column, [column.cell(row, self._now) for row in self._rows]) for column in self._columns]
        spare = sorted((each for each in columns if each.column.spare), key=lambda each: each.column.spare)
        while spare and _width(columns) > options.max_width:
            columns.remove(spare.pop())
        yield Text(_GAP, "bright_black", no_wrap=True, overflow="ellipsis").join(each.title for each in columns)
        for cells in zip(*(each.cells for each in columns), strict=True):
            yield Text(_GAP, no_wrap=True, overflow="ellipsis").join(cells)


class _Filled(Generic[R]):
    """A column with its title and cells, all of one width. Rich's own table measures each cell again and again."""

    def __init__(self, column: Column[R], cells: Sequence[str | Text]) -> None:
        self.column = column
        texts = [cell if isinstance(cell, Text) else Text(cell.replace("\n", " ")) for cell in (column.title, *cells)]
        self.width = max(text.cell_len for text in texts)
        for text in texts:
            text.align("right" if column.numeric else "left", self.width)
        self.title, *self.cells = texts


def _width(columns: Sequence[_Filled[R]]) -> int:
    return sum(each.width for each in columns) + len(_GAP) * (len(columns) - 1)
