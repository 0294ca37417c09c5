"""What a trainer has reported, line by line."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any


def reports(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The lines that report a step; notes and what is not JSON are passed over."""
    for line in lines:
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if isinstance(report, dict) and isinstance(report.get("step"), int) and "note" not in report:
            yield report


def seconds_of(report: dict[str, Any]) -> float:
    """When it was written, in seconds since 1970; 0: it does not say."""
    try:
        return datetime.fromisoformat(report["time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0
