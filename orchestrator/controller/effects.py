"""What the controller can do to the world. Each effect may be carried out twice: the second time changes nothing."""

from dataclasses import dataclass

from orchestrator.fleets.protocol import LaunchRequest
from orchestrator.jobs.instances import Assignment


@dataclass(frozen=True)
class Launch:
    """Start an instance, under the name that the record holds as its intent."""

    request: LaunchRequest


@dataclass(frozen=True)
class Terminate:
    """End an instance and all that runs on it."""

    instance: str


@dataclass(frozen=True)
class Forget:
    """Remove the objects of an instance that is gone for good."""

    instance: str


@dataclass(frozen=True)
class Seal:
    """Take the head for this (epoch, generation)."""

    job: str
    epoch: int
    generation: int


@dataclass(frozen=True)
class Assign:
    """Tell an instance what to do."""

    instance: str
    assignment: Assignment


@dataclass(frozen=True)
class DropRequest:
    """Remove a request that was carried out."""

    job: str
    request: str


Effect = Launch | Terminate | Forget | Seal | Assign | DropRequest
