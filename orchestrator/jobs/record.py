"""The record: the truth about a job. Only the leading controller writes it, by compare-and-swap."""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.jobs.charges import Charge, Market, charge
from orchestrator.jobs.events import Event
from orchestrator.jobs.instances import TrainerProgress
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.store.document import Document

MAX_UNCOUNTED_S = 3600.0
"""So much time counts at most where only wall clocks tell of it: while there was no controller."""


class Slot(BaseModel):
    """A place for an instance in a generation. A slot in the record is the intent to launch its instance."""

    model_config = ConfigDict(frozen=True)

    instance: str
    """Also the launch token."""
    seen: bool = False
    """Whether the instance has ever been seen alive: from then on, absent means lost."""
    zone: str = ""
    market: Market = "on_demand"
    """Where and how it is to be had: chosen before it is launched, and never changed."""


class SetAside(BaseModel):
    """An offer of a fleet that is left out for a while, for it was refused, or comes last, for it was interrupted."""

    model_config = ConfigDict(frozen=True)

    instance_type: str
    zone: str | None
    """None: every zone."""
    market: Market
    why: Literal["capacity", "quota", "interrupted"]
    until_age_s: float
    """How old the job is when that is over."""


Cause = Literal["start", "resume", "scale_up", "scale_down", "resize", "failure", "loss", "preemption", "move"]
Outcome = Literal["finished", "drained", "failed", "refused", "lost", "dropped"]


class Generation(BaseModel):
    """One life of a job's workers: a fixed size, from one checkpoint on."""

    model_config = ConfigDict(frozen=True)

    number: int
    rung: int
    phase: GenerationPhase = GenerationPhase.PROVISIONING
    cause: Cause
    slots: tuple[Slot, ...]
    market: Market | None = None
    """The only market that it is wanted from; None: any that the job allows."""
    refused_rounds: int = 0
    """How often every offer for it was refused, one after the other."""
    no_shows: int = 0
    """How many of its instances did not come up."""
    sealed: bool = False
    resume: str | None = None
    resume_step: int = 0
    created_at: datetime
    started_at: datetime | None = None
    """When the workers were told to start."""
    training_at: datetime | None = None
    """When the first new step was seen."""
    ended_at: datetime | None = None
    drain_at: datetime | None = None
    drain_age_s: float | None = None
    """The same as an age of the job."""
    drain_reason: str | None = None
    image: str = ""
    """The container image that its workers ran in, by its digest; empty where they are processes."""
    outcome: Outcome | None = None
    stalled: bool = False
    """Whether it was ended because its workers came no further."""
    released: bool = False
    """Whether its instances were let go: they are in `retired`, or gone, or work for the next generation."""

    @property
    def instances(self) -> tuple[str, ...]:
        return tuple([slot.instance for slot in self.slots])  # a list is quicker, and this is asked for often


class InstanceUse(BaseModel):
    """An instance that costs money: from when, at what price, until when."""

    model_config = ConfigDict(frozen=True)

    instance: str
    instance_type: str = ""
    zone: str = ""
    market: Market = "on_demand"
    usd_per_hour: float
    since: datetime
    """When it was decided to launch it."""
    allowance_s: float | None = None
    """How long it may live at most, whoever watches over it; None: as long as it is needed."""
    lived_s: float = 0.0
    """How long it had lived when time was last counted (`JobRecord.counted_at`)."""
    watched_by: int = 0
    """The leader (its epoch) that has counted this time by its own clock, from the launch or the agent's word on."""
    shown: bool = False
    """Whether the fleet or a heartbeat has ever shown it: else it may never have come to be."""

    def cost_usd(self, lived_s: float) -> float:
        """What it costs, having lived so long: never more than its allowance."""
        return self.usd_per_hour * self.paid_s(lived_s) / 3600

    def paid_s(self, lived_s: float) -> float:
        """For how long it is paid, having lived so long."""
        return max(0.0, lived_s if self.allowance_s is None else min(lived_s, self.allowance_s))

    def charge(self, lived_s: float) -> Iterator[Charge]:
        """The same as `cost_usd`, by day."""
        return charge(self.instance_type, self.market, self.since, self.paid_s(lived_s), self.usd_per_hour)

    @property
    def worst_usd(self) -> float:
        """What it costs at the very most: endless for one that costs money and may live for ever."""
        return self.cost_usd(math.inf) if self.usd_per_hour else 0.0


class JobRecord(Document):
    """Everything that has been decided about a job."""

    name: str
    epoch: int = 0
    """The leader that wrote it last: an older one may not write after it."""
    phase: JobPhase = JobPhase.PENDING
    reason: str
    """Why it is in its phase, for a person."""
    wanted: Literal["run", "pause", "cancel"] = "run"
    pinned_rung: int | None = None
    """Set by a person's resize: the job stays there until a person says otherwise."""
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    age_s: float = 0.0
    """How long the job has existed when time was last counted. Added up bit by bit, so that no clock that jumps can end
    a job, or give it endless time."""
    counted_at: datetime | None = None
    """When that was, by the wall clock of who did it."""

    generation: Generation | None = None
    """The one whose workers run, or the last that ran."""
    upcoming: Generation | None = None
    """The one that is being provisioned to follow it."""
    last_generation: int = 0
    retired: tuple[str, ...] = ()
    """Instances to be ended, until the fleet says that they are gone."""

    progress: TrainerProgress | None = None
    noted_at: datetime | None = None
    """When progress and utilisation were last written down; heartbeats hold what is newer."""
    committed_step: int = 0
    failures: int = 0
    """Generations in a row that ended by failure; one that had committed a checkpoint before begins a new row."""
    losses: int = 0
    """Generations in a row that were lost with their instances, counted likewise."""
    retry_at: datetime | None = None
    """Nothing is launched before this."""
    resizes: int = 0
    last_resize_at: datetime | None = None
    last_resize_age_s: float | None = None
    """The same as an age of the job."""
    unresponsive: tuple[str, ...] = ()
    """Instances of the generation that were silent at the last look: each is told once."""
    fleet_trouble: str = ""
    """Why the fleet does not tell how the instances are, once that has lasted."""
    aside: tuple[SetAside, ...] = ()
    """Offers that were refused or interrupted lately."""
    spot_tries: int = 0
    """How often in a row a job that runs on demand has tried to get back to spot instances in vain."""
    spot_tried_age_s: float | None = None
    """How old it was when it last began on demand, or tried."""
    unavailable_rungs: dict[int, datetime] = Field(default_factory=dict)
    """Rungs that could not be had, and when they may be tried again."""
    lost_steps: int = 0
    utilization_percent: float | None = None
    utilization_source: Literal["nvml", "cpu"] | None = None

    limit: str | None = None
    """The limit that was reached, in words: from then on the job is being ended."""
    uses: tuple[InstanceUse, ...] = ()
    spent_usd: float = 0.0
    """What the instances that are gone have cost; those in `uses` come on top."""
    charges: tuple[Charge, ...] = ()
    """The same by day, type and market."""

    requests_done: tuple[str, ...] = ()
    notices_told: dict[str, int] = Field(default_factory=dict)
    """Per instance, the number of the last notice that became an event."""
    last_event: int = 0
    outbox: tuple[Event, ...] = ()
    """Events decided together with this version of the record; in the bucket before the next one is written."""

    def wants(self, instance: str) -> bool:
        """Whether there is work for an instance, now or soon: once there is none for it, there never will be again."""
        generations = [g for g in (self.generation, self.upcoming) if g is not None and not g.released]
        named = any(instance in generation.instances for generation in generations)
        return named and instance not in self.retired and not self.phase.over

    def since_counted_s(self, now: datetime) -> float:
        """Time since it was last counted, by the wall clock: at most as much as can be told from a wrong clock."""
        seconds = (now - (self.counted_at or self.created_at)).total_seconds()
        return min(max(0.0, seconds), MAX_UNCOUNTED_S)

    def spend_usd(self, now: datetime) -> float:
        """What the job has cost up to now."""
        return self.spent_usd + sum(use.cost_usd(self.lived_s(use, now)) for use in self.uses)

    def instance_hours(self, now: datetime) -> float:
        """For how long its instances have run up to now, added up."""
        ended_s = sum(charge.seconds for charge in self.charges)
        return (ended_s + sum(self.lived_s(use, now) for use in self.uses)) / 3600

    def lived_s(self, use: InstanceUse, now: datetime) -> float:
        """How long one of its instances has lived; none that waits for capacity has."""
        return use.lived_s + self.since_counted_s(now) if use.shown else 0.0

    @property
    def usd_per_hour(self) -> float:
        """What the instances that are there cost."""
        return sum(use.usd_per_hour for use in self.uses if use.shown)
