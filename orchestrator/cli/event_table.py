"""Events as a table."""

import json
from collections.abc import Iterable
from datetime import datetime

from rich.table import Table
from rich.text import Text

from orchestrator.cli.styles import EVENT_STYLES
from orchestrator.jobs.events import Event
from orchestrator.reading import text


def event_table(events: Iterable[Event], now: datetime, *, wide: bool, header: bool = True) -> Table:
    """A line for each event; wide: with what it was decided on."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black", show_header=header)
    table.add_column("#", justify="right", style="bright_black", no_wrap=True, min_width=3)
    table.add_column("TIME", style="bright_black", no_wrap=True)
    table.add_column("GEN", justify="right", min_width=3)
    table.add_column("EVENT", no_wrap=True, min_width=18)
    table.add_column("REASON", overflow="fold")
    if wide:
        table.add_column("INPUTS", style="bright_black", overflow="fold")
    for event in events:
        kind = Text(str(event.kind), style=EVENT_STYLES.get(event.kind, ""))
        cells: list[str | Text] = [
            str(event.number),
            text.local_time(event.at, now),
            str(event.generation),
            kind,
            Text(event.message),
        ]
        if wide:
            cells.append(Text(json.dumps(event.inputs) if event.inputs else ""))
        table.add_row(*cells)
    return table
