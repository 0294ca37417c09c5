"""The phase of a job in words."""

from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.status import JobStatus


def phase_words(status: JobStatus) -> str:
    """The phase, and what goes on within it: 'running · draining', 'running · pausing'."""
    if status.phase.over:
        return str(status.phase)
    if status.wanted == "cancel":
        return f"{status.phase} · cancelling"
    if status.wanted == "pause" and status.phase is not JobPhase.PAUSED:
        return f"{status.phase} · pausing"
    if status.phase is JobPhase.RUNNING and status.generation_phase is not None:
        return f"{status.phase} · {status.generation_phase}"
    return str(status.phase)
