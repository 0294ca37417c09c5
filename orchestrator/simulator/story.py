"""The trace of a run, as a story that can be read."""

from orchestrator.simulator.timeline import Timeline

FAULT_MARK = "!!"


class Story:
    """Lines of who did what when; nothing is kept unless somebody wants to read it."""

    def __init__(self, timeline: Timeline, *, wanted: bool) -> None:
        self.wanted = wanted
        self.lines: list[str] = []
        self._timeline = timeline

    def tell(self, who: str, what: str, *values: object) -> None:
        """Something happened. `what` has a {} for each value."""
        if self.wanted:
            self._line("  ", who, what.format(*values))

    def fault(self, who: str, what: str, *values: object) -> None:
        """Something went wrong."""
        if self.wanted:
            self._line(FAULT_MARK, who, what.format(*values))

    def _line(self, mark: str, who: str, what: str) -> None:
        minutes, seconds = divmod(self._timeline.now_s, 60)
        self.lines.append(f"{minutes:4.0f}:{seconds:04.1f} {mark} {who:<16} {what}")
