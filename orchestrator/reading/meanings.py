"""What a kind of event means to whoever looks after a job: those who show it choose a colour for each meaning."""

from enum import StrEnum

from orchestrator.jobs.events import EventKind


class Meaning(StrEnum):
    """How an event is to be taken."""

    PLAIN = "plain"
    QUIET = "quiet"
    TRAINING = "training"
    RESIZE = "resize"
    GOOD = "good"
    NOTEWORTHY = "noteworthy"
    BAD = "bad"
    CANCELLED = "cancelled"


EVENT_MEANINGS: dict[EventKind, Meaning] = {
    EventKind.SUBMITTED: Meaning.QUIET,
    EventKind.LEADER_CHANGED: Meaning.QUIET,
    EventKind.PROVISIONING: Meaning.QUIET,
    EventKind.STARTING: Meaning.QUIET,
    EventKind.DRAINING: Meaning.QUIET,
    EventKind.GENERATION_ENDED: Meaning.QUIET,
    EventKind.TRAINING: Meaning.TRAINING,
    EventKind.SCALE_UP: Meaning.RESIZE,
    EventKind.SCALE_DOWN: Meaning.RESIZE,
    EventKind.RESIZE: Meaning.RESIZE,
    EventKind.SUCCEEDED: Meaning.GOOD,
    EventKind.RESUMED: Meaning.GOOD,
    EventKind.NO_CAPACITY: Meaning.NOTEWORTHY,
    EventKind.REQUEST_REFUSED: Meaning.NOTEWORTHY,
    EventKind.CHECKPOINT_REJECTED: Meaning.NOTEWORTHY,
    EventKind.CHECKPOINT_FAILED: Meaning.NOTEWORTHY,
    EventKind.UNRESPONSIVE: Meaning.NOTEWORTHY,
    EventKind.PREEMPTION_NOTICE: Meaning.NOTEWORTHY,
    EventKind.WORKER_FAILED: Meaning.BAD,
    EventKind.INSTANCE_LOST: Meaning.BAD,
    EventKind.FAILED: Meaning.BAD,
    EventKind.CANCELLED: Meaning.CANCELLED,
}
"""Kinds that are not listed are plain."""

TRAINING_ENDS = {
    EventKind.GENERATION_ENDED,
    EventKind.WORKER_FAILED,
    EventKind.INSTANCE_LOST,
    EventKind.PAUSED,
    EventKind.SUCCEEDED,
    EventKind.FAILED,
    EventKind.CANCELLED,
}
"""After these none of a generation's workers runs."""


def meaning_of(kind: EventKind) -> Meaning:
    """How an event of this kind is to be taken."""
    return EVENT_MEANINGS.get(kind, Meaning.PLAIN)
