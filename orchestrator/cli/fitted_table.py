"""A table that is fitted to a narrow terminal by leaving out whole columns, for a cut name is of no use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

R = TypeVar("R")

GAP = 2
"""Blanks between columns."""


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
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bright_black")
        for each in columns:
            justify: JustifyMethod = "right" if each.column.numeric else "left"
            table.add_column(each.column.title, justify=justify, no_wrap=True, width=each.width)
        for cells in zip(*(each.cells for each in columns), strict=True):
            table.add_row(*cells)
        yield table


class _Filled(Generic[R]):
    """A column with its cells. Rich would measure all of them again for each table that is tried."""

    def __init__(self, column: Column[R], cells: Sequence[str | Text]) -> None:
        self.column, self.cells = column, cells
        shown = (cell.plain if isinstance(cell, Text) else cell for cell in (column.title, *cells))
        self.width = max(map(cell_len, shown))


def _width(columns: "Sequence[_Filled[R]]") -> int:
    return sum(each.width + GAP for each in columns) - GAP
