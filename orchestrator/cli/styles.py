"""Colours by meaning, for Rich; a reader without colours loses nothing, for every colour goes with a word."""

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.reading.meanings import EVENT_MEANINGS, Meaning

PHASE_STYLES: dict[JobPhase, str] = {
    JobPhase.PENDING: "yellow",
    JobPhase.RUNNING: "cyan",
    JobPhase.PAUSED: "blue",
    JobPhase.SUCCEEDED: "green",
    JobPhase.FAILED: "red",
    JobPhase.CANCELLED: "magenta",
}

_STYLES: dict[Meaning, str] = {
    Meaning.QUIET: "dim",
    Meaning.TRAINING: "cyan",
    Meaning.RESIZE: "bold cyan",
    Meaning.GOOD: "green",
    Meaning.NOTEWORTHY: "yellow",
    Meaning.BAD: "red",
    Meaning.CANCELLED: "magenta",
}
EVENT_STYLES: dict[EventKind, str] = {kind: _STYLES[meaning] for kind, meaning in EVENT_MEANINGS.items()}
"""Kinds that are not listed are plain."""
