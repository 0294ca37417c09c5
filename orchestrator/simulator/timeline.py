"""Virtual time: one heap of what is to happen, and processes that live between its events.

Everything in a simulation runs in one thread. A process is real, synchronous code in greenlets: where it waits (for a
reply, for its next turn) control goes back to the heap, and other processes go on meanwhile. So any interleaving of
calls can come about, each by its seed, and again by the same seed.
"""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from greenlet import getcurrent, greenlet

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Died(BaseException):
    """The process is killed: nothing of it may catch this."""


class Timeline:
    """The heap. What is due at the same moment happens in an order that the seed decides."""

    def __init__(self, chance: Random) -> None:
        self.now_s = 0.0
        self.events = 0
        self._tie = chance.random
        self._heap: list[tuple[float, float, int, Callable[[], object]]] = []
        self._count = 0
        self.hub = getcurrent()
        self.processes: list[Process] = []

    def at(self, time_s: float, call: Callable[[], object]) -> None:
        """Have something happen at a moment; at once if that has passed."""
        self._count += 1
        heapq.heappush(self._heap, (max(time_s, self.now_s), self._tie(), self._count, call))

    def after(self, delay_s: float, call: Callable[[], object]) -> None:
        """Have something happen so many seconds from now."""
        self.at(self.now_s + delay_s, call)

    def run(self, until_s: float, stop: Callable[[], bool] | None = None) -> None:
        """Let time pass up to a moment, or until `stop` says so after an event."""
        heap = self._heap
        while heap and heap[0][0] <= until_s:
            if stop is not None and stop():
                return
            self.now_s, _, _, call = heapq.heappop(heap)
            self.events += 1
            call()
        if stop is None or not stop():
            self.now_s = until_s

    def close(self) -> None:
        """Nothing happens any more. A thread that waits for ever would keep its whole world in memory."""
        for process in self.processes:
            process.vanish()
        self.processes.clear()
        self._heap.clear()


class Alarm:
    """Wakes a thread before its time."""

    def __init__(self) -> None:
        self.wake: Callable[[], object] = _nothing


def _nothing() -> None:
    """Nobody sleeps."""


def _once(call: Callable[[], object]) -> Callable[[], object]:
    calls = [call]
    return lambda: calls.pop()() if calls else None


class Process:
    """An operating-system process: its threads, its wall clock, its death."""

    def __init__(self, timeline: Timeline, name: str, skew_s: float = 0.0) -> None:
        self.timeline = timeline
        self.name = name
        self.skew_s = skew_s
        """How far its wall clock is from the truth."""
        self.alive = True
        self.at_death: Callable[[], None] | None = None
        self._threads: list[greenlet] = []
        timeline.processes.append(self)

    def start(self, body: Callable[[], object]) -> None:
        """Run a thread of this process from now on."""
        thread = greenlet(lambda: self._live(body), self.timeline.hub)
        self._threads.append(thread)
        self.timeline.after(0.0, lambda: self._resume(thread))

    def _live(self, body: Callable[[], object]) -> None:
        try:
            body()
        except Died:
            self.die()
        finally:
            current = getcurrent()
            self._threads = [thread for thread in self._threads if thread is not current]

    def _resume(self, thread: greenlet) -> None:
        if self.alive and not thread.dead:
            thread.switch()

    def sleep(self, seconds: float, alarm: "Alarm | None" = None) -> None:
        """Wait, in a thread of this process, or until the alarm rings. Raises Died if it was killed meanwhile."""
        thread = getcurrent()
        alarm = alarm or Alarm()
        wake = _once(lambda: self._resume(thread))
        alarm.wake = lambda: self.timeline.after(0.0, wake)  # never from within another thread
        self.timeline.after(seconds, wake)
        self.timeline.hub.switch()
        if not self.alive:
            raise Died

    def die(self) -> None:
        """SIGKILL: nothing of it goes on. To be called from anywhere; in a thread of its own, raise Died after it."""
        if not self.alive:
            return
        self.alive = False
        for thread in self._threads:
            if thread is not getcurrent() and thread:  # one that has not begun never will
                self.timeline.after(0.0, lambda thread=thread: self._unwind(thread))  # type: ignore[misc]
        if self.at_death is not None:
            self.at_death()

    def vanish(self) -> None:
        """As if it had never been, with nobody told."""
        self.alive, self.at_death = False, None
        for thread in list(self._threads):
            if thread:
                self._unwind(thread)

    @staticmethod
    def _unwind(thread: greenlet) -> None:
        """Let its frames go. What its `finally`s call finds the process dead."""
        if not thread.dead:
            thread.throw(Died)

    def now(self) -> datetime:
        """Its wall clock."""
        return START + timedelta(seconds=self.timeline.now_s + self.skew_s)

    def monotonic(self) -> float:
        """Its monotonic clock, which always tells true."""
        return 1000.0 + self.timeline.now_s
