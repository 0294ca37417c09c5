"""The bill of a rehearsal, as a table and as data."""

from typing import Any

from rich.table import Table

from orchestrator.reading import text
from orchestrator.rehearsal.bill import Bill


def bill_table(bill: Bill) -> Table:
    """A line for each instance, and the sum."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black", show_footer=True)
    table.add_column("INSTANCE", "together", no_wrap=True)
    table.add_column("TYPE", no_wrap=True)
    table.add_column("ZONE", no_wrap=True)
    table.add_column("MARKET", no_wrap=True)
    table.add_column("TIME", text.duration(bill.seconds), justify="right", no_wrap=True)
    table.add_column("$/H", justify="right", no_wrap=True)
    table.add_column("COST", text.usd(bill.usd), justify="right", no_wrap=True)
    table.add_column("END", overflow="fold", style="bright_black")
    for line in bill.lines:
        table.add_row(
            line.instance,
            line.instance_type,
            line.zone,
            line.market,
            text.duration(line.seconds),
            f"{line.usd_per_hour:.4f}",
            text.usd(line.usd),
            line.why_ended,
        )
    return table


def bill_data(bill: Bill) -> dict[str, Any]:
    """The same as plain values."""
    lines = [
        {
            "instance": line.instance,
            "instance_type": line.instance_type,
            "zone": line.zone,
            "market": line.market,
            "seconds": line.seconds,
            "usd_per_hour": line.usd_per_hour,
            "usd": round(line.usd, 6),
            "why_ended": line.why_ended,
        }
        for line in bill.lines
    ]
    return {"instances": lines, "seconds": bill.seconds, "usd": round(bill.usd, 6)}
