"""What the doctor found, as a table."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.table import Table
from rich.text import Text

from orchestrator.cli.checks import Finding, Verdict
from orchestrator.cli.output import prose_console

_MARKS = {
    Verdict.OK: Text("✔ ok", style="green"),
    Verdict.WARN: Text("! warn", style="yellow"),
    Verdict.FAIL: Text("✘ fail", style="red"),
}


def findings_table(findings: Sequence[Finding]) -> Table:
    """A line for each check; under it what to do, where there is something to do."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        words = Text(finding.seen)
        if finding.advice:
            words.append(f"\n→ {finding.advice}", style="cyan" if finding.verdict is not Verdict.OK else "bright_black")
        table.add_row(_MARKS[finding.verdict], finding.name, words)
    return table


def working_on(what: str | None) -> AbstractContextManager[object]:
    """A sign of life on a terminal while something takes a moment."""
    return prose_console().status(what) if what and sys.stderr.isatty() else nullcontext()
