"""When an agent could not commit, for reasons outside it: work that was lost then could not have been saved."""

from typing import Any

from orchestrator.simulator.timeline import Timeline

_AFTERMATH_S = 15.0
"""What was in vain is tried again after a moment, and from its beginning."""
_FOR_ALL = ""


class Excuses:
    """Spans of time, of one job or of all."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._spans: dict[str, list[tuple[float, float]]] = {}
        self._untold: dict[str, float] = {}
        self._heads: dict[str, tuple[int, int]] = {}

    def add(self, job: str, since_s: float, until_s: float) -> None:
        """An agent of a job could not do what it wanted."""
        self._spans.setdefault(job, []).append((since_s, until_s + _AFTERMATH_S))

    def add_for_all(self, since_s: float, until_s: float) -> None:
        """Nobody could."""
        self.add(_FOR_ALL, since_s, until_s)

    def sealed(self, job: str, head: dict[str, Any]) -> None:
        """A new leader has sealed the head: agents may commit again once it has told them its epoch."""
        before = self._heads.get(job, (0, 0))
        now = self._heads[job] = (head["epoch"], head["generation"])
        if now[0] > before[0]:
            self._untold.setdefault(job, self._timeline.now_s)

    def assigned(self, order: dict[str, Any]) -> None:
        """A leader has told an agent its epoch."""
        job = order["job"]
        if job in self._untold and (order["epoch"], order["generation"]) == self._heads.get(job):
            self.add(job, self._untold.pop(job), self._timeline.now_s)

    def excused_s(self, job: str, since_s: float, until_s: float) -> float:
        """How much of a span of time is covered."""
        spans = [*self._spans.get(_FOR_ALL, ()), *self._spans.get(job, ())]
        if job in self._untold:
            spans.append((self._untold[job], until_s))
        total_s, reached_s = 0.0, since_s
        for begin_s, end_s in sorted(spans):
            counted_s = min(end_s, until_s) - max(begin_s, reached_s)
            if counted_s > 0:
                total_s += counted_s
                reached_s = min(end_s, until_s)
        return total_s
