"""How busy the workers of a job were, second by second, as far as the bucket tells.

Heartbeats hold the last minutes and are written over. What a decision saw is kept with it, also the heartbeats of that
moment: so the time before each resize, failure and end is known for good, and the time in which a page was open.
"""

from statistics import fmean

from orchestrator.jobs.instances import Heartbeat

MOST_SECONDS = 20_000
"""What is remembered of one job."""


class UtilizationHistory:
    """Puts together what heartbeats tell."""

    def __init__(self) -> None:
        self._percents: dict[int, dict[str, float]] = {}

    def add(self, beat: Heartbeat) -> None:
        """Its samples, one a second, the newest at the time of the heartbeat."""
        if beat.utilization is None:
            return
        newest_s = round(beat.at.timestamp())
        for ago_s, percent in enumerate(reversed(beat.utilization.percents)):
            self._percents.setdefault(newest_s - ago_s, {})[beat.instance] = percent
        for second in sorted(self._percents)[:-MOST_SECONDS]:
            del self._percents[second]

    def points(self) -> list[tuple[float, float]]:
        """Seconds since 1970, and the mean over the instances."""
        return [(float(second), fmean(by.values())) for second, by in sorted(self._percents.items())]
