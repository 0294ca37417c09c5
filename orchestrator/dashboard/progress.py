"""What a trainer has reported from its first step on, as far as curves need it."""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from orchestrator.dashboard.at_once import at_once
from orchestrator.jobs import layout
from orchestrator.reading.progress_reports import reports, seconds_of
from orchestrator.store.protocol import Store

FIELDS: Final = (
    "accuracy",
    "student_accuracy",
    "teacher_accuracy",
    "loss",
    "class_loss",
    "consistency_loss",
    "samples_per_second",
)
MOST_CHUNKS = 600
"""A page that is opened reads no more pieces at once: of a longer story, every so many-th."""
MOST_POINTS = 4_000
"""Of each field; from then on every other one is kept."""

Points = list[tuple[float, float]]


class ProgressCurves:
    """Reads on where it has stopped."""

    def __init__(self, store: Store, job: str) -> None:
        self._store = store
        self._job = job
        self._last_key = ""
        self._points: defaultdict[str, Points] = defaultdict(list)

    def read(self) -> dict[str, Points]:
        """By field: moments in seconds since 1970, and values. Takes one listing, and reads what is new."""
        prefix = layout.progress_prefix(self._job)
        keys = [entry.key for entry in self._store.list(prefix, start_after=self._last_key)]
        every = max(1, math.ceil(len(keys) / MOST_CHUNKS))
        for found in at_once(self._store.get, keys[::-1][::every][::-1]):  # the newest is among them
            self._take(b"" if found is None else found.body)
        self._last_key = keys[-1] if keys else self._last_key
        return dict(self._points)

    def _take(self, body: bytes) -> None:
        for field, at_s, value in _values(body):
            points = self._points[field]
            points.append((at_s, value))
            if len(points) > MOST_POINTS:
                del points[1::2]


def _values(body: bytes) -> Iterator[tuple[str, float, float]]:
    for report in reports(body.splitlines()):
        at_s = seconds_of(report)
        for field in FIELDS if at_s else ():
            value = report.get(field)
            if isinstance(value, int | float) and math.isfinite(value):
                yield field, at_s, float(value)
