"""What tests of checkpoints on their way to the bucket and back share."""

import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

from orchestrator.agent.checkpoints import Committer, Lineage, put_manifest, restore, send
from orchestrator.agent.equipment import Place
from orchestrator.agent.machine import Machine
from orchestrator.agent.run_directory import Identity, LocalCheckpoint, RunDirectory
from orchestrator.jobs import layout
from orchestrator.jobs.head import Head, commit, load_head, seal
from orchestrator.jobs.instances import Assignment
from orchestrator.store.memory import MemoryStore
from tests.support.interposed import InterposedStore
from tests.support.waiting import wait_until

JOB = "digits"
Nonce = Callable[[], str]
Told = list[tuple[str, str]]
"""Kinds and messages."""
T = TypeVar("T")


class ImpatientMachine(Machine):
    """The real one, looked at all the time."""

    look_every_s = glance_every_s = 0.01

    def __init__(self, root: Path) -> None:
        super().__init__(Place("i", JOB, 1, 1, (), 60.0), root, root, {})


class Agent:
    """A committer and what it was told."""

    def __init__(
        self, shaky: InterposedStore, run: RunDirectory, nonce: Nonce, told: Told, generation: int = 1, kept: int = 3
    ) -> None:
        self.epoch = 1
        self.lineage = Lineage(JOB, generation, lambda: self.epoch)
        self.committer = Committer(
            shaky,
            self.lineage,
            run,
            kept,
            nonce,
            lambda kind, text: told.append((kind, text)),
            ImpatientMachine(run.path.parent),
        )

    def wait_for(self, step: int) -> None:
        wait_until(lambda: self.committer.committed_step == step, f"step {step} is committed")

    def settle(self) -> None:
        self.committer.settle()
        self.wait_until_done()

    def abandon(self) -> None:
        self.committer.abandon()
        self.wait_until_done()

    def wait_until_done(self) -> None:
        wait_until(lambda: self.committer.done, "the committer is done")


def at_once(pieces: Generator[float, None, T]) -> T:
    """All pieces of some work, one after the other; what it returns."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            value: T = end.value
            return value


def write(
    run: RunDirectory, step: int, *, meta: str = "", final: bool = False, extra: str = "", content: str = "x"
) -> LocalCheckpoint:
    """A checkpoint as a trainer writes it: by rename, in place of one of the same step."""
    made = run.path / f"making-{step}"
    made.mkdir()
    (made / "state.bin").write_text(f"state at {step}")
    (made / "meta.json").write_text(meta or f'{{"step": {step}}}')
    if final:
        (made / "result.json").write_text("{}")
    if extra:
        (made / extra).write_text(content)
    place = run.checkpoints / f"step-{step:012d}"
    if place.exists():
        shutil.rmtree(place)
    identity = Identity.of(str(made))
    made.rename(place)
    return LocalCheckpoint(place, step, final, identity)


def nobody() -> tuple[str, ...]:
    """No checkpoint is being read by anybody."""
    return ()


def head_of(store: MemoryStore) -> Head:
    stored = load_head(store, JOB)
    assert stored is not None
    return stored.value


def names(store: MemoryStore) -> list[str]:
    return list(store.prefixes(layout.checkpoints_prefix(JOB)))


def commit_steps(store: MemoryStore, nonce: Nonce, tmp_path: Path, *steps: int, generation: int = 1) -> None:
    """Checkpoints that an earlier generation has committed, one after the other."""
    run = RunDirectory(tmp_path / f"earlier-{generation}")
    run.prepare({})
    seal(store, JOB, 1, generation, nonce)
    for step in steps:
        lineage = Lineage(JOB, generation, lambda: 1)
        manifest = at_once(send(store, lineage, write(run, step), {}))
        put_manifest(store, lineage, manifest)
        commit(store, JOB, 1, manifest, nonce)


def restore_into(
    store: MemoryStore | InterposedStore, path: Path, told: Told | None = None, *, generation: int | None = None
) -> int:
    """Restore as the agent of the sealed generation would, from the head."""
    stored = load_head(store, JOB)
    assert stored is not None
    run = RunDirectory(path)
    run.prepare({})
    assignment = Assignment(
        epoch=stored.value.epoch,
        job=JOB,
        generation=generation or stored.value.generation,
        action="run",
        resume=stored.value.checkpoint,
    )
    step = at_once(
        restore(
            store,
            assignment,
            run,
            lambda: "restorer",
            lambda kind, text: None if told is None else told.append((kind, text)),
        )
    )
    if step:
        assert (run.resume / "state.bin").read_text() == f"state at {step}"
    else:
        assert not run.resume.exists()
    return step
