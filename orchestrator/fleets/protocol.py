"""The protocol between the controller and any source of instances."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from orchestrator.errors import ElasticError
from orchestrator.jobs.charges import Market as Market  # noqa: PLC0414 - part of the protocol, told to mypy so
from orchestrator.spec.models import Resources


class InstanceState(StrEnum):
    """How an instance is: it is paid for until it is gone."""

    STARTING = "starting"
    RUNNING = "running"
    GONE = "gone"


@dataclass(frozen=True)
class Sighting:
    """What a fleet says of one instance."""

    state: InstanceState
    lived_s: float | None = None
    """For how long it has been paid for, by the fleet's own clock: until now or, when it is gone, until its end. None:
    the fleet does not tell."""
    why: str = ""
    """Why it is gone, in the fleet's words, if it tells."""


Refusal = Literal["capacity", "quota", "fatal"]
"""capacity: not here and now, perhaps elsewhere or later; quota: not for long, but perhaps another type or market;
fatal: asking again cannot help, a person has to do something."""


@dataclass(frozen=True)
class Offer:
    """Where and how an instance of a type may be had now, and for what price."""

    instance_type: str
    zone: str
    """Empty where a fleet has no zones."""
    market: Market
    usd_per_hour: float


@dataclass(frozen=True)
class LaunchRequest:
    """What starting an instance needs. `instance` is its name and the token that makes the launch idempotent."""

    instance: str
    job: str
    generation: int
    instance_type: str
    workers: int
    cores_per_worker: int
    allowance_s: float | None = None
    """How long the instance may live: it ends itself by then, also if nobody is left to end it."""
    zone: str = ""
    """Where, in a fleet that has zones."""
    market: Market = "on_demand"
    max_usd_per_hour: float | None = None
    """What an hour of it may come to: where a price can rise above that, the fleet ends it. None: whatever it costs."""
    count: int = field(default=1, compare=False)
    """How many of these its generation still needs, it included: where all of them cannot be had, one is of no use."""
    beside: tuple[str, ...] = field(default=(), compare=False)
    """The other instances of its generation, there already or not. Both may change until this one is launched."""
    image: str | None = None
    """The image whose containers its workers run in; None: they are processes."""


class LaunchError(Exception):
    """An instance could not be launched; nothing was started, and nothing will be by what was asked."""

    def __init__(self, message: str, *, kind: Refusal) -> None:
        super().__init__(message)
        self.kind = kind


class FleetError(ElasticError):
    """A fleet did not answer, or not clearly: what was asked may have been done, or not. It is asked again."""


class Fleet(Protocol):
    """A source of instances. Every method may raise `FleetError`."""

    @property
    def lag_s(self) -> float:
        """For how long after a launch `describe` may not know the instance yet."""
        ...

    def launch(self, request: LaunchRequest) -> None:
        """Start an instance, or do nothing if one of that name was ever started. Raises LaunchError."""
        ...

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        """What is known of each of these instances; one that it has never heard of (yet) is left out."""
        ...

    def terminate(self, instance: str) -> None:
        """End an instance and everything that runs on it; nothing to do if it is gone.

        One that this very fleet has launched is ended also where it would not be described yet.
        """
        ...

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:
        """How an instance of this type may be had now in the markets of `resources`, best first.

        Raises LaunchError where it cannot be had at all.
        """
        ...
