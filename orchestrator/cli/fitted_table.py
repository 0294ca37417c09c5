"""A table that is fitted to a narrow terminal by leaving out whole columns, for a cut name is of no use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from orchestrator.cli.output import PIPED_WIDTH

R = TypeVar("R")


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
        columns = list(self._columns)
        spare = sorted((column for column in columns if column.spare), key=lambda column: column.spare)
        table = self._table(columns)
        unbounded = options.update(width=PIPED_WIDTH)
        while spare and console.measure(table, options=unbounded).maximum > options.max_width:
            columns.remove(spare.pop())
            table = self._table(columns)
        yield table

    def _table(self, columns: Sequence[Column[R]]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black")
        for column in columns:
            table.add_column(column.title, justify="right" if column.numeric else "left", no_wrap=True)
        for row in self._rows:
            table.add_row(*(column.cell(row, self._now) for column in columns))
        return table
