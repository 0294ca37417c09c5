"""What the controller sees of one job at one moment: values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.fleets.protocol import InstanceState, Offer, Refusal
from orchestrator.jobs.head import Head
from orchestrator.jobs.instances import Assignment, Heartbeat
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import Request
from orchestrator.spec.models import JobSpec


@dataclass(frozen=True)
class LaunchFailure:
    """Why an instance of this job could not be launched just now."""

    message: str
    kind: Refusal = "capacity"


@dataclass(frozen=True)
class InstanceView:
    """One instance as fleet and bucket show it."""

    state: InstanceState | None = None
    """The fleet's word; None: it does not know the name (which is not the same as 'it never was')."""
    vanished: bool = True
    """Without a state: whether that is so for longer than the fleet may tell how it was a while ago."""
    never_shown: bool = False
    """Without a state: whether the fleet has taken its launch, and should show it by now: it was, and is forgotten."""
    lived_s: float | None = None
    """For how long it has been paid for, until now or its end, by the fleet's word; None: the fleet does not tell."""
    why_gone: str = ""
    """In the fleet's words, if it tells."""
    never_was: bool = False
    """Whether no instance of this name was ever started, nor can be by what was asked: this controller has made up the
    name, and each launch was refused for certain."""
    heartbeat: Heartbeat | None = None
    silent_s: float = 0.0
    """How long the heartbeat has not changed, by the controller's own monotonic clock."""
    stalled_s: float = 0.0
    """How long its workers have come no further (state, activity, step), by the same clock."""
    is_live: bool = False
    """Whether its heartbeat came under this controller's eyes, and not long after it was written."""
    assignment: Assignment | None = None
    launch_failure: LaunchFailure | None = None
    terminated: bool = False
    """Whether it has ended for good: this controller told the fleet, and it is gone."""


_NEVER_SEEN = InstanceView()


@dataclass(frozen=True)
class Observation:
    """One job, seen whole."""

    epoch: int
    spec: JobSpec
    record: JobRecord
    head: Head | None
    requests: tuple[Request, ...]
    instances: Mapping[str, InstanceView]
    offers: Mapping[str, tuple[Offer, ...]]
    """How each instance type of the ladder may be had, best first."""
    no_offers: Mapping[str, LaunchFailure] = field(default_factory=dict)
    """Why an instance type may not be had at all, or is not known to be."""
    since_written_s: float | None = None
    """How long ago this controller wrote the record, by its own monotonic clock; None: another did."""
    fleet_trouble: str = ""
    """Why the fleet has not told for a while how its instances are: what is known of them is old."""

    def view(self, instance: str) -> InstanceView:
        return self.instances.get(instance, _NEVER_SEEN)
