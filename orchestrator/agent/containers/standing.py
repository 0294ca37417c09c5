"""What the agent and the thread of its workers tell each other: what is asked for, and how far it has come."""

from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.agent.containers.ends import RankEnd
from orchestrator.agent.containers.following import Follower
from orchestrator.agent.containers.guard import Guard
from orchestrator.agent.containers.image import Image
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.jobs.instances import Assignment, TrainerExit


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds."""

    first_answer_s: float = 60.0
    """For an engine that has never answered."""
    away_s: float = 120.0
    """For one that has."""
    pull_s: float = 300.0
    """While a pull comes no further."""
    network_s: float = 300.0
    """Until the first node has made the network."""
    clear_s: float = 600.0
    """For an engine that is away when all is to be removed; the guard, and who comes later, tries on."""


@dataclass(frozen=True)
class Home:
    """Whose the containers are."""

    work_dir: Path
    instance: str
    agent: str
    """Names the agent's process: one that comes after it is another."""
    guard: Guard | None = None
    """Who removes them when the agent has ended."""


@dataclass
class Rank:
    """A rank's container, as it was last seen."""

    number: int
    """Among all ranks of the generation."""
    container_id: str
    followers: list[Follower]
    pid: int | None = None
    end: RankEnd | None = None
    asked: int = 0
    """In how many rounds it was asked to drain."""
    ended_by_us: bool = False


@dataclass
class Wishes:
    """What the agent has asked for: it writes, the thread reads."""

    order: "Order | None" = None
    drain_rounds: int = 0
    stacks: bool = False
    killed_at: float | None = None

    @property
    def is_killed(self) -> bool:
        return self.killed_at is not None


@dataclass(frozen=True)
class Order:
    """What is to be trained, and with what."""

    run: RunDirectory
    assignment: Assignment
    own_address: str
    gpus: tuple[int, ...]


@dataclass
class Standing:
    """How far it has come: the thread writes, the agent reads."""

    doing: str = ""
    moved_at: float = 0.0
    image: Image | None = None
    ranks: list[Rank] = field(default_factory=list)
    is_incomplete: bool = False
    """Whether the first rank had ended before the others could begin."""
    exit: TrainerExit | None = None
    cleared: bool = False
