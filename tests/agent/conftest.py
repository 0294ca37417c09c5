"""A store, nonces, and what an agent tells."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from orchestrator.agent import checkpoints
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.fleets.processes import end_marked_processes
from orchestrator.jobs.head import seal
from orchestrator.store.memory import MemoryStore
from tests.agent.committing import JOB, Agent, Nonce, Told
from tests.agent.real_agent import Instance
from tests.agent.virtual_machine import VirtualMachine
from tests.support.interposed import InterposedStore, undisturbed


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def nonce() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"{next(numbers):08d}"


@pytest.fixture
def told() -> Told:
    """The notices so far: kind and message."""
    return []


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    """A real agent that was not started yet."""
    instance = Instance(tmp_path)
    yield instance
    end_marked_processes(str(instance.work_dir), grace_s=0)
    if instance.process is not None:
        instance.process.wait(10)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again without the patience that real life asks for."""
    monkeypatch.setattr(checkpoints, "RETRY_AFTER_S", 0.02)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.prepare({})
    return run


@pytest.fixture
def shaky(store: MemoryStore) -> InterposedStore:
    """The store as the agent sees it."""
    return InterposedStore(store)


@pytest.fixture
def agent(store: MemoryStore, shaky: InterposedStore, run: RunDirectory, nonce: Nonce, told: Told) -> Iterator[Agent]:
    """The agent of generation 1, sealed by epoch 1."""
    seal(store, JOB, 1, 1, nonce)
    agent = Agent(shaky, run, nonce, told)
    yield agent
    shaky.around = undisturbed
    agent.abandon()


@pytest.fixture
def machine(tmp_path: Path) -> VirtualMachine:
    return VirtualMachine(tmp_path)


@pytest.fixture
def training(machine: VirtualMachine) -> VirtualMachine:
    """One that has trained for a while and committed."""
    machine.assign()
    assert machine.live(100)
    assert machine.committed == 60
    return machine
