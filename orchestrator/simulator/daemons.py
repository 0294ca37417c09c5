"""Controllers: the real duty in a process that is started again whenever it has died."""

from collections.abc import Callable, Mapping

from orchestrator.controller.duty import Duty
from orchestrator.fleets.protocol import Fleet
from orchestrator.jobs.pace import Pace
from orchestrator.simulator.bucket import BucketView
from orchestrator.simulator.story import Story
from orchestrator.simulator.timeline import Process, Timeline
from orchestrator.store.document import Nonce
from orchestrator.store.lease import Lease
from orchestrator.store.owner import Owner

LEASE_TTL_S = 20.0
TURN_AT_LEAST_S = 1.0
STANDBY_TURN_S = 6.0
"""A daemon that stands by looks less often than a real one, which costs a simulation much and shows nothing more."""


class Daemon:
    """One host's daemon, through all its lives."""

    def __init__(
        self,
        name: str,
        timeline: Timeline,
        view: Callable[[Process], BucketView],
        fleets: Callable[[Process], Mapping[str, Fleet]],
        nonce: Nonce,
        story: Story,
        pace: Pace,
        skew_s: float,
        restart_after_s: Callable[[], float],
        troubled: Callable[[str, float, float], None],
    ) -> None:
        """`troubled` is told from when to when a process of it could not do what it wanted."""
        self.process: Process | None = None
        self.store: BucketView | None = None
        self.returns = True
        """Whether it is started again after its death."""
        self.returns_at_s = 0.0
        self.skew_s = skew_s
        self._name = name
        self._timeline = timeline
        self._view, self._fleets = view, fleets
        self._nonce, self._story, self._pace = nonce, story, pace
        self._restart_after_s = restart_after_s
        self._troubled = troubled
        self._lives = 0
        self._turn_since_s = float("inf")
        """When the turn began that is being made."""

    def start(self) -> None:
        """Begin a life, unless one is going on."""
        if not self.returns or (self.process is not None and self.process.alive):
            return
        if self._timeline.now_s < self.returns_at_s:
            self._timeline.at(self.returns_at_s, self.start)
            return
        self._lives += 1
        process = Process(self._timeline, f"{self._name}.{self._lives}", self.skew_s)
        self.process, self.store = process, self._view(process)
        process.at_death = self._died
        process.start(lambda: self._live(process))

    def _died(self) -> None:
        if self.process is not None:
            since_s = min(self._turn_since_s, self._timeline.now_s)
            self._troubled(self.process.name, since_s, float("inf"))
        self._story.fault(self.process.name if self.process else self._name, "the daemon has died")
        self._timeline.after(self._restart_after_s(), self.start)

    def _live(self, process: Process) -> None:
        store = self.store
        assert store is not None
        owner = Owner(f"{self._name}:boot:1", self._lives, 0.0, process.name)
        lease = Lease(store, owner, LEASE_TTL_S, process.monotonic, self._nonce, lambda _owner: False)
        fleets = self._fleets(process)
        duty = Duty(
            store,
            lease,
            lambda: fleets,
            now=process.now,
            monotonic=process.monotonic,
            nonce=self._nonce,
            log=lambda text: self._story.tell(process.name, "daemon: {}", text),
            pace=self._pace,
        )
        while True:
            begun_s = self._turn_since_s = self._timeline.now_s
            pause_s = max(duty.turn(), TURN_AT_LEAST_S)
            self._turn_since_s = float("inf")
            if self._timeline.now_s > begun_s:  # without trouble, it takes no time
                self._troubled(process.name, begun_s, self._timeline.now_s)
            process.sleep(pause_s if lease.held else max(pause_s, STANDBY_TURN_S))
