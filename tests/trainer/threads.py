"""Ranks as threads of the test: the real step, sums and data, without the seconds that processes need to start."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.trainer.launch import TINY
from trainer.config import TrainingConfig
from trainer.data.batches import ResidentBatches
from trainer.data.digits import load_digits
from trainer.data.pools import split_pools
from trainer.exchange import Alone, Exchange, SharedMemory
from trainer.precision import Precision
from trainer.sampling import Sampler
from trainer.snapshot import Snapshot
from trainer.state import TrainState, build_state, digest
from trainer.step import Outcome, TrainStep
from trainer.world import World

CPU = torch.device("cpu")
DIGITS = load_digits(CPU)


@dataclass(frozen=True)
class ThreadWorld(World):
    """A rank that is a thread, and meets the others at a barrier."""

    meeting: threading.Barrier

    def wait_for_all(self) -> None:
        self.meeting.wait(timeout=60)


@dataclass(frozen=True)
class Trained:
    """What a few steps came to, as the leading rank has it."""

    state: TrainState
    outcomes: list[Outcome | None]
    digest: str


def train(
    monkeypatch: pytest.MonkeyPatch, ranks: int, steps: int = 3, precision: Precision = "fp32", **changes: Any
) -> Trained:
    """So many steps on so many ranks; all of them have to come to the same state."""
    meeting, buffers, in_common = threading.Barrier(ranks), dict[int, torch.Tensor](), list[torch.Tensor]()

    def open_exchange(world: World, size: int, common: int) -> Exchange:
        if ranks == 1:
            return Alone(size, CPU)
        buffers[world.rank] = torch.zeros(size)
        if world.is_leader and common:
            in_common.append(torch.zeros(common))
        world.wait_for_all()
        each = [buffers[rank] for rank in range(ranks)]
        return SharedMemory(world, each, world.wait_for_all, *in_common)

    monkeypatch.setattr("trainer.step.open_exchange", open_exchange)
    config = TrainingConfig.model_validate({**TINY, **changes})
    plan = config.plan(DIGITS.facts)
    states = [build_state(config, plan, CPU) for _ in range(ranks)]  # one at a time: torch has one seed for all threads
    worlds = [ThreadWorld(rank, ranks, CPU, meeting) for rank in range(ranks)]
    with ThreadPoolExecutor(ranks) as pool:
        done = list(pool.map(lambda world, state: _train(world, state, config, steps, precision), worlds, states))
    assert len({trained.digest for trained in done}) == 1
    return done[0]


def _train(world: World, state: TrainState, config: TrainingConfig, steps: int, precision: Precision) -> Trained:
    torch.set_num_threads(1)
    plan = config.plan(DIGITS.facts)
    batches = ResidentBatches(DIGITS, Sampler(config, split_pools(DIGITS.train_classes, plan, config.seed)), CPU)
    step = TrainStep(config, plan, state, DIGITS, batches, world, precision)
    outcomes = [step.run(stop=False) for _ in range(steps)]
    snapshot = Snapshot(state)
    snapshot.take()
    return Trained(state, outcomes, digest(snapshot.files(), snapshot.counters))


Sabotage = Callable[[pytest.MonkeyPatch], None]
