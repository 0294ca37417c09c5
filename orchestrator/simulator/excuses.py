"""When an agent could not commit, for reasons outside it: work that was lost then could not have been saved."""

from collections.abc import Iterable
from typing import Any

from orchestrator.simulator.timeline import Timeline

_AFTERMATH_S = 15.0
"""What was in vain is tried again after a moment, and from its beginning."""
_UNTOLD_S = 60.0
"""A leader that has sealed a head tells the agents its epoch within so long, trouble of its own aside."""
_FOR_ALL = ""

Span = tuple[float, float]


class Excuses:
    """Spans of time, of one job or of all."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._spans: dict[str, list[Span]] = {}
        self._leaders: dict[str, list[Span]] = {}
        """Per process of a controller, when it was in trouble."""
        self._untold: dict[str, tuple[float, str]] = {}
        """Per job, since when the agents are to be told, and by whom."""
        self._heads: dict[str, tuple[int, int]] = {}

    def add(self, job: str, since_s: float, until_s: float) -> None:
        """An agent of a job could not do what it wanted."""
        self._spans.setdefault(job, []).append((since_s, until_s + _AFTERMATH_S))

    def add_for_all(self, since_s: float, until_s: float) -> None:
        """Nobody could."""
        self.add(_FOR_ALL, since_s, until_s)

    def troubled(self, leader: str, since_s: float, until_s: float) -> None:
        """A controller could not do what it wanted, or is dead."""
        self._leaders.setdefault(leader, []).append((since_s, until_s + _AFTERMATH_S))

    def troubled_s(self, leader: str, since_s: float, until_s: float) -> float:
        """For how long of a span a controller was in trouble."""
        return _covered_s(self._leaders.get(leader, ()), since_s, until_s)

    def sealed(self, by: str, job: str, head: dict[str, Any]) -> None:
        """A new leader has sealed the head: agents may commit again once it has told them its epoch."""
        before = self._heads.get(job, (0, 0))
        now = self._heads[job] = (head["epoch"], head["generation"])
        if now[0] > before[0]:
            self._end_untold(job)
            self._untold[job] = (self._timeline.now_s, by)

    def assigned(self, order: dict[str, Any]) -> None:
        """A leader has told an agent its epoch."""
        job = order["job"]
        if (order["epoch"], order["generation"]) == self._heads.get(job):
            self._end_untold(job)

    def _end_untold(self, job: str) -> None:
        if job in self._untold:
            self.add(job, *self._untold_span(job, self._timeline.now_s))
            del self._untold[job]

    def _untold_span(self, job: str, until_s: float) -> Span:
        """For how long it excuses that the agents are not told: not for ever."""
        since_s, by = self._untold[job]
        bound_s = _UNTOLD_S + _covered_s(self._leaders.get(by, ()), since_s, until_s)
        return since_s, min(until_s, since_s + bound_s)

    def excused_s(self, job: str, since_s: float, until_s: float) -> float:
        """How much of a span of time is covered."""
        spans = [*self._spans.get(_FOR_ALL, ()), *self._spans.get(job, ())]
        if job in self._untold:
            spans.append(self._untold_span(job, until_s))
        return _covered_s(spans, since_s, until_s)


def _covered_s(spans: Iterable[Span], since_s: float, until_s: float) -> float:
    """How much of the time between two moments lies in any of these spans."""
    total_s, reached_s = 0.0, since_s
    for begin_s, end_s in sorted(spans):
        counted_s = min(end_s, until_s) - max(begin_s, reached_s)
        if counted_s > 0:
            total_s += counted_s
            reached_s = min(end_s, until_s)
    return total_s
