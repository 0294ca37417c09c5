"""The phases of jobs and generations, and the only ways from one to another."""

from enum import StrEnum


class JobPhase(StrEnum):
    """Where a job stands, for a person."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing can follow."""
        return not JOB_TRANSITIONS[self]


class GenerationPhase(StrEnum):
    """Where one generation of a job stands."""

    PROVISIONING = "provisioning"
    STARTING = "starting"
    TRAINING = "training"
    DRAINING = "draining"
    ENDED = "ended"


class IllegalTransition(Exception):
    """A transition that the tables do not list: a fault in the controller, never to be carried out."""


JOB_TRANSITIONS: dict[JobPhase, frozenset[JobPhase]] = {
    JobPhase.PENDING: frozenset(
        {
            JobPhase.RUNNING,  # the first generation's workers were told to start
            JobPhase.PAUSED,  # a person, before anything ran
            JobPhase.FAILED,  # nothing could be launched, or the deadline passed while waiting
            JobPhase.CANCELLED,  # a person
        }
    ),
    JobPhase.RUNNING: frozenset(
        {
            JobPhase.PAUSED,  # a person; the generation was drained
            JobPhase.SUCCEEDED,  # the trainer finished and its last checkpoint is committed
            JobPhase.FAILED,  # too many failures, deadline or budget
            JobPhase.CANCELLED,  # a person
        }
    ),
    JobPhase.PAUSED: frozenset(
        {
            JobPhase.PENDING,  # a person resumed it
            JobPhase.FAILED,  # the deadline passed
            JobPhase.CANCELLED,  # a person
        }
    ),
    JobPhase.SUCCEEDED: frozenset(),
    JobPhase.FAILED: frozenset(),
    JobPhase.CANCELLED: frozenset(),
}

GENERATION_TRANSITIONS: dict[GenerationPhase, frozenset[GenerationPhase]] = {
    GenerationPhase.PROVISIONING: frozenset(
        {
            GenerationPhase.STARTING,  # every instance is ready and the generation before has ended
            GenerationPhase.ENDED,  # no longer wanted, or it could not be had
        }
    ),
    GenerationPhase.STARTING: frozenset(
        {
            GenerationPhase.TRAINING,  # the trainer reported its first step
            GenerationPhase.DRAINING,  # resize, pause, notice or limit before the first step
            GenerationPhase.ENDED,  # exit, crash or loss
        }
    ),
    GenerationPhase.TRAINING: frozenset(
        {
            GenerationPhase.DRAINING,  # resize, pause, notice or limit
            GenerationPhase.ENDED,  # finished, crash or loss
        }
    ),
    GenerationPhase.DRAINING: frozenset(
        {GenerationPhase.ENDED}
    ),  # the trainer stopped and its checkpoint is committed, or it was lost
    GenerationPhase.ENDED: frozenset(),
}


def check_job_transition(old: JobPhase, new: JobPhase) -> None:
    """Raise IllegalTransition unless the table lists the step."""
    if new not in JOB_TRANSITIONS[old]:
        raise IllegalTransition(f"a job cannot go from {old} to {new}")


def check_generation_transition(old: GenerationPhase, new: GenerationPhase) -> None:
    """Raise IllegalTransition unless the table lists the step."""
    if new not in GENERATION_TRANSITIONS[old]:
        raise IllegalTransition(f"a generation cannot go from {old} to {new}")
