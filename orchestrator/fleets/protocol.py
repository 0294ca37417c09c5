"""The protocol between the controller and any source of instances."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orchestrator.errors import ElasticError


class InstanceState(StrEnum):
    """What a fleet says of an instance. A name that it has never heard of is left out of its answer."""

    STARTING = "starting"
    RUNNING = "running"
    GONE = "gone"


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


class LaunchError(Exception):
    """An instance could not be launched; nothing was started."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent
        """True: asking again cannot help; False: there is no capacity now."""


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

    def describe(self, instances: Iterable[str]) -> Mapping[str, InstanceState]:
        """What is known of each of these instances."""
        ...

    def terminate(self, instance: str) -> None:
        """End an instance and everything that runs on it; nothing to do if it is gone."""
        ...

    def usd_per_hour(self, instance_type: str) -> float:
        """What an instance of this type costs now."""
        ...
