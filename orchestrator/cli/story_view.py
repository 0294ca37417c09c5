"""The story of a job as a page: decisions one below the other, then what holds now."""

import json
from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orchestrator.cli.story import Chapter
from orchestrator.cli.styles import EVENT_STYLES, PHASE_STYLES
from orchestrator.jobs.status import JobStatus
from orchestrator.reading import text
from orchestrator.reading.answers import Answer
from orchestrator.reading.phase_words import phase_words

INDENT = 2


def story_page(
    story: Sequence[Chapter], status: JobStatus, answers: Sequence[Answer], now: datetime, *, wide: bool
) -> RenderableType:
    """All of it; wide: with the inputs of each event as they are kept."""
    parts: list[RenderableType] = []
    for chapter in story:
        rows = _rows(chapter, wide=wide)
        parts += [_headline(chapter, now), *([Padding(_grid(rows), (0, 0, 0, INDENT))] if rows else []), Text()]
    phase = Text.assemble((f"now: {phase_words(status)}", f"bold {PHASE_STYLES[status.phase]}"), f"  {status.reason}")
    parts += [phase, Padding(_grid([(a.question, a.answer) for a in answers]), (0, 0, 0, INDENT))]
    return Group(*parts)


def _headline(chapter: Chapter, now: datetime) -> Text:
    head = chapter.head
    when = f"{text.local_time(head.at, now)}  "
    kind = (str(head.kind), f"bold {EVENT_STYLES.get(head.kind, '')}".rstrip())
    return Text.assemble((when, "bright_black"), kind, f"  {head.message}")


def _rows(chapter: Chapter, *, wide: bool) -> list[tuple[str, str]]:
    rows = [("seen", line) for line in chapter.seen]
    rows += [("decided", line) for line in chapter.decided]
    rows += [("done", line) for line in chapter.done]
    rows += [("otherwise", line) for line in chapter.otherwise]
    if wide:
        rows += [(f"event {event.number}", f"{event.kind} {json.dumps(event.inputs)}") for event in chapter.events]
        if chapter.head.decision is not None:
            rows.append(("decision", f"{chapter.head.decision}, by the leader of epoch {chapter.head.epoch}"))
    return rows


def _grid(rows: Sequence[tuple[str, str]]) -> Table:
    """Labels and what they label; a label that is the one above is left out."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bright_black", no_wrap=True, min_width=9)
    grid.add_column(overflow="fold")
    last = ""
    for label, line in rows:
        grid.add_row("" if label == last else label, Text(line))
        last = label
    return grid
