"""What goes wrong in a run, and how often it did.

Each run draws a temper first, calm to hellish, and from it a rate for each fault: so some runs have one fault again and
again, others a bit of everything, and some none at all.
"""

from collections import Counter
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """A kind of thing that goes wrong."""

    # any call of a process to bucket or cloud
    CRASH_BEFORE = "the process dies before the call"
    CRASH_AFTER = "the process dies after the call, before the reply"
    REPLY_LOST = "done, and the reply is lost"
    LOST = "lost on its way, and nobody knows"
    LATE = "given up by the caller, and done later"
    DOUBLED = "done, and done again later"
    DELAYED = "on its way for some seconds"
    STALLED = "the process stands still for longer than a lease"
    BUSY_409 = "409: another write is under way"
    OWN_412 = "412 for a write that was applied: it was sent twice"
    ERROR_500 = "500"
    ERROR_503 = "503"
    THROTTLED = "throttled"
    SLOW_UPLOAD = "a slow upload"
    PARTIAL_UPLOAD = "an upload breaks off"
    CORRUPTED_UPLOAD = "an upload arrives altered"
    LAUNCH_STALLED = "the process stands still for minutes within a launch"
    STALE_DESCRIBE = "the cloud tells how it was a while ago"
    # for a while
    OUTAGE = "the bucket is away for minutes"
    CLOUD_OUTAGE = "the cloud's API is away for minutes"
    PARTITION = "one process cannot reach the bucket"
    NO_CAPACITY = "no capacity"
    QUOTA = "the quota is used up"
    DISK_FULL = "an instance's disk is full"
    ROT = "a committed checkpoint is altered where it lies"
    # clocks
    SKEW = "a wall clock is wrong"
    JUMP = "a wall clock jumps"
    # instances and workers
    PREEMPTION = "an instance is taken away"
    PREEMPTION_NOTICE = "an instance is taken away two minutes after a notice"
    SLOW_END = "an instance takes minutes to end, its processes going on"
    NEVER_REPORTS = "an instance boots and never reports"
    AGENT_DIES = "an agent is killed"
    RANK_CRASH = "the trainer crashes"
    RANK_STALL = "the trainer stands still for ever"
    # people and controllers
    TWO_DAEMONS = "several daemons"
    DAEMON_AWAY = "no controller for minutes"
    NO_DAEMON = "no controller ever returns"
    REQUEST = "a person asks for something"
    TWO_PEOPLE = "two people ask at once"


CALLS = {  # how often in a thousand calls, in a run of ordinary temper
    Fault.CRASH_BEFORE: 0.6,
    Fault.CRASH_AFTER: 0.9,
    Fault.REPLY_LOST: 1.2,
    Fault.LOST: 0.8,
    Fault.LATE: 0.8,
    Fault.DOUBLED: 0.8,
    Fault.DELAYED: 3.0,
    Fault.STALLED: 0.5,
    Fault.BUSY_409: 0.8,
    Fault.OWN_412: 0.8,
    Fault.ERROR_500: 1.0,
    Fault.ERROR_503: 1.0,
    Fault.THROTTLED: 1.0,
}
UPLOADS = {Fault.SLOW_UPLOAD: 50.0, Fault.PARTIAL_UPLOAD: 40.0, Fault.CORRUPTED_UPLOAD: 30.0}
"""The same, in a thousand files uploaded."""
TEMPERS = (0.0, 0.5, 1.0, 1.0, 2.0, 5.0)


class Faults:
    """The faults of one run."""

    def __init__(self, chance: Random, counts: Counter[Fault] | None = None, *, temper: float | None = None) -> None:
        self.chance = chance
        self.counts: Counter[Fault] = Counter() if counts is None else counts
        self.temper = chance.choice(TEMPERS) if temper is None else temper
        self._calls = self._drawn(CALLS)
        self._uploads = self._drawn(UPLOADS)
        self._call_rate = sum(self._calls.values())

    def _drawn(self, table: dict[Fault, float]) -> dict[Fault, float]:
        """This run's rates: each kind is left out of some runs."""
        chance = self.chance
        return {f: rate / 1000 * self.temper * chance.choice((0.0, 1.0, 1.0, 3.0)) for f, rate in table.items()}

    def calm(self) -> None:
        """From now on everything works."""
        self.temper = self._call_rate = 0.0
        self._uploads = {}

    def in_call(self) -> Fault | None:
        """What happens to a call, if anything does; not counted yet, for it may not fit the call."""
        if not self._call_rate or (drawn := self.chance.random()) >= self._call_rate:
            return None
        for fault, rate in self._calls.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return None

    def in_upload(self) -> Fault | None:
        """What happens to an upload, if anything does."""
        for fault, rate in self._uploads.items():
            if self.chance.random() < rate:
                self.counts[fault] += 1
                return fault
        return None

    def comes(self, fault: Fault, probability: float) -> bool:
        """Whether something happens in a run of ordinary temper with this probability."""
        if self.temper and self.chance.random() < min(0.9, probability * self.temper):
            self.counts[fault] += 1
            return True
        return False

    def count(self, fault: Fault) -> None:
        """It has happened."""
        self.counts[fault] += 1
