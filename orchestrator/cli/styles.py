"""Colours by meaning, for Rich; a reader without colours loses nothing, for every colour goes with a word."""

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase

PHASE_STYLES: dict[JobPhase, str] = {
    JobPhase.PENDING: "yellow",
    JobPhase.RUNNING: "cyan",
    JobPhase.PAUSED: "blue",
    JobPhase.SUCCEEDED: "green",
    JobPhase.FAILED: "red",
    JobPhase.CANCELLED: "magenta",
}

_GOOD, _NOTEWORTHY, _BAD, _QUIET = "green", "yellow", "red", "dim"

EVENT_STYLES: dict[EventKind, str] = {
    EventKind.SUBMITTED: _QUIET,
    EventKind.LEADER_CHANGED: _QUIET,
    EventKind.PROVISIONING: _QUIET,
    EventKind.STARTING: _QUIET,
    EventKind.DRAINING: _QUIET,
    EventKind.GENERATION_ENDED: _QUIET,
    EventKind.TRAINING: "cyan",
    EventKind.SCALE_UP: "bold cyan",
    EventKind.SCALE_DOWN: "bold cyan",
    EventKind.RESIZE: "bold cyan",
    EventKind.SUCCEEDED: _GOOD,
    EventKind.RESUMED: _GOOD,
    EventKind.NO_CAPACITY: _NOTEWORTHY,
    EventKind.REQUEST_REFUSED: _NOTEWORTHY,
    EventKind.CHECKPOINT_REJECTED: _NOTEWORTHY,
    EventKind.CHECKPOINT_FAILED: _NOTEWORTHY,
    EventKind.UNRESPONSIVE: _NOTEWORTHY,
    EventKind.PREEMPTION_NOTICE: _NOTEWORTHY,
    EventKind.WORKER_FAILED: _BAD,
    EventKind.INSTANCE_LOST: _BAD,
    EventKind.FAILED: _BAD,
    EventKind.CANCELLED: "magenta",
}
"""Kinds that are not listed are plain."""
