"""How fast a run is, and for how much of its time it waits for images: from one report to the next."""

from collections.abc import Callable
from dataclasses import dataclass

REPORT_EVERY_S = 1.0

Clock = Callable[[], float]


@dataclass(frozen=True)
class Rate:
    """Over the time since the report before."""

    samples_per_second: float
    data_wait: float
    """Share of that time, 0..1."""


class Speed:
    """When the next report is due, and what it says of the time since the last one."""

    def __init__(self, clock: Clock, images_per_step: int, step: int) -> None:
        self.reported_step = step
        """Of the last report."""
        self._clock, self._images_per_step = clock, images_per_step
        self._at_s, self._wait_s = clock(), 0.0
        self._first = True

    def is_due(self, step: int) -> bool:
        """At the first step, then about once a second; never twice at one step."""
        return self.reported_step < step and (self._first or self._clock() - self._at_s >= REPORT_EVERY_S)

    def take(self, step: int, wait_s: float) -> Rate:
        """What is to be reported now. `wait_s`: for how long this rank has waited for images in all."""
        now_s = self._clock()
        elapsed_s = max(now_s - self._at_s, 1e-9)
        images = (step - self.reported_step) * self._images_per_step
        rate = Rate(images / elapsed_s, min(1.0, (wait_s - self._wait_s) / elapsed_s))
        self._set(now_s, step, wait_s)
        return rate

    def restart(self, step: int, wait_s: float) -> None:
        """The run goes on from an earlier step."""
        self._set(self._clock(), step, wait_s)

    def _set(self, at_s: float, step: int, wait_s: float) -> None:
        self._at_s, self.reported_step, self._wait_s = at_s, step, wait_s
        self._first = False
