"""Checkpoints on their way to the bucket and back: nothing half is ever the head, nothing altered is ever loaded."""

import errno
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from orchestrator.agent import checkpoints
from orchestrator.agent.background import NICENESS
from orchestrator.agent.checkpoints import Committer, Lineage, remove_old, restore, upload
from orchestrator.agent.equipment import Place
from orchestrator.agent.machine import Machine
from orchestrator.agent.run_directory import LocalCheckpoint, RunDirectory
from orchestrator.jobs import layout
from orchestrator.jobs.head import Head, Manifest, NotYetAssigned, Superseded, commit, load_head, seal
from orchestrator.jobs.instances import Assignment
from orchestrator.jobs.pins import PinWatch, pin, unpin
from orchestrator.store import StoreError
from orchestrator.store.disk import file_sha256
from orchestrator.store.memory import MemoryStore
from tests.agent.conftest import Told
from tests.support.interposed import Away, InterposedStore, LostReplies, Operation, undisturbed
from tests.support.waiting import wait_until

JOB = "digits"
Nonce = Callable[[], str]
T = TypeVar("T")


@pytest.fixture(autouse=True)
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


class ImpatientMachine(Machine):
    """The real one, looked at all the time."""

    look_every_s = 0.01

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
        wait_until(lambda: self.committer.committed_step == step, f"step {step} is committed", 10)

    def settle(self) -> None:
        self.committer.settle()
        self.wait_until_done()

    def abandon(self) -> None:
        self.committer.abandon()
        self.wait_until_done()

    def wait_until_done(self) -> None:
        wait_until(lambda: self.committer.done, "the committer is done", 10)


@pytest.fixture
def agent(store: MemoryStore, shaky: InterposedStore, run: RunDirectory, nonce: Nonce, told: Told) -> Iterator[Agent]:
    """The agent of generation 1, sealed by epoch 1."""
    seal(store, JOB, 1, 1, nonce)
    agent = Agent(shaky, run, nonce, told)
    yield agent
    shaky.around = undisturbed
    agent.abandon()


def at_once(pieces: Generator[float, None, T]) -> T:
    """All pieces of some work, one after the other; what it returns."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            value: T = end.value
            return value


def write(run: RunDirectory, step: int, *, final: bool = False, extra: str = "") -> LocalCheckpoint:
    """A checkpoint as a trainer writes it: by rename."""
    made = run.path / f"making-{step}"
    made.mkdir()
    (made / "state.bin").write_text(f"state at {step}")
    (made / "meta.json").write_text(f'{{"step": {step}}}')
    if final:
        (made / "result.json").write_text("{}")
    if extra:
        (made / extra).write_text("x")
    place = run.checkpoints / f"step-{step:012d}"
    made.rename(place)
    return LocalCheckpoint(place, step)


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
        manifest = at_once(upload(store, Lineage(JOB, generation, lambda: 1), write(run, step), {}))
        commit(store, JOB, 1, manifest, nonce)


# --- committing -------------------------------------------------------------------------------------------------------


def test_what_the_trainer_writes_is_uploaded_committed_and_removed(
    agent: Agent, run: RunDirectory, store: MemoryStore
) -> None:
    local = write(run, 10)
    expected = {file.name: (file.size_bytes, file_sha256(file.path)) for file in local.files()}
    agent.wait_for(10)
    head = head_of(store)
    assert (head.step, head.final, head.checkpoint) == (10, False, layout.checkpoint_prefix(JOB, 10, 1))
    found = store.get(layout.manifest_key(layout.checkpoint_prefix(JOB, 10, 1)))
    assert found is not None
    manifest = Manifest.model_validate_json(found.body)
    assert {file.name: (file.size_bytes, file.sha256) for file in manifest.files} == expected
    wait_until(lambda: run.whole_checkpoints() == [], "the local copy is gone", 10)


def test_the_last_one_is_marked_and_settling_waits_for_it(agent: Agent, run: RunDirectory, store: MemoryStore) -> None:
    write(run, 10)
    write(run, 20, final=True)
    agent.settle()
    assert (head_of(store).step, head_of(store).final) == (20, True)
    assert run.whole_checkpoints() == []


def test_when_several_wait_the_newest_is_enough(
    store: MemoryStore, run: RunDirectory, nonce: Nonce, told: Told
) -> None:
    seal(store, JOB, 1, 1, nonce)
    for step in (10, 20, 30):
        write(run, step)
    agent = Agent(InterposedStore(store), run, nonce, told)
    agent.settle()
    assert names(store) == ["000000000030-g000001"]


def test_manifest_and_head_come_after_every_file(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, store: MemoryStore
) -> None:
    written: list[str] = []

    def remember(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation in ("upload", "create", "replace"):
            written.append(key.rsplit("/", 1)[-1])
        return call()

    shaky.around = remember
    write(run, 10)
    agent.wait_for(10)
    assert written == ["meta.json", "state.bin", "manifest.json", "head.json"]


def test_while_the_store_is_away_it_tries_again_and_says_so_once(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, store: MemoryStore, told: Told
) -> None:
    shaky.around = away = Away()
    write(run, 10)
    wait_until(lambda: away.asked > 5, "it has tried several times", 10)
    assert [kind for kind, _ in told] == ["checkpoint_failed"]
    assert "step 10 could not be committed, trying again" in told[0][1]
    assert [c.step for c in run.whole_checkpoints()] == [10], "the local copy is all there is"
    write(run, 20)
    away.away = False
    agent.wait_for(20)
    assert head_of(store).step == 20
    assert len(told) == 1


def test_after_the_workers_have_ended_it_does_not_try_in_a_frenzy(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "RETRY_AFTER_S", 30.0)
    shaky.around = away = Away()
    write(run, 10)
    wait_until(lambda: away.asked, "it has tried", 10)
    agent.committer.settle()
    wait_until(lambda: away.asked > 1, "settling makes it try at once", 10)
    asked = away.asked
    threading.Event().wait(0.3)
    assert away.asked - asked <= 2, "and then it waits again"


@pytest.mark.parametrize("suffix", ["state.bin", "manifest.json", "head.json"])
@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_reply_loses_nothing(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, store: MemoryStore, suffix: str, applied: bool
) -> None:
    shaky.around = LostReplies(suffix, applied=applied)
    write(run, 10)
    agent.settle()
    assert head_of(store).step == 10
    assert restore_into(store, run.path.parent / "again") == 10


def test_a_head_that_moved_though_nobody_could_tell_is_not_harmed_by_trying_again(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, store: MemoryStore
) -> None:
    """The commit was applied, its reply lost, and the store away when it was read back; uploads fail from then on."""
    tries = 0

    def trouble(operation: str, key: str, call: Callable[[], object]) -> object:
        nonlocal tries
        if operation == "replace" and key.endswith("head.json"):
            call()
            shaky.around = Away(frozenset({"get", "upload"}))
            return LostReplies("", applied=False)("replace", key, call)
        return call()

    shaky.around = trouble
    write(run, 10)
    wait_until(lambda: isinstance(shaky.around, Away) and shaky.around.asked > 5, "it has tried again", 10)
    assert head_of(store).step == 10
    assert restore_into(store, run.path.parent / "meanwhile") == 10
    shaky.around = undisturbed
    agent.wait_for(10)


def test_a_new_leader_makes_it_wait_for_the_new_epoch(agent: Agent, run: RunDirectory, store: MemoryStore) -> None:
    seal(store, JOB, 2, 1, lambda: "leader-2")
    write(run, 10)
    wait_until(lambda: names(store), "it was uploaded", 10)
    threading.Event().wait(0.1)
    assert head_of(store).step == 0
    assert not agent.committer.superseded
    agent.epoch = 2
    agent.wait_for(10)
    assert head_of(store).epoch == 2


def test_a_newer_generation_ends_it(agent: Agent, run: RunDirectory, store: MemoryStore) -> None:
    seal(store, JOB, 2, 2, lambda: "leader-2")
    write(run, 10)
    wait_until(lambda: agent.committer.done, "it gives up", 10)
    assert agent.committer.superseded
    assert (head_of(store).checkpoint, agent.committer.committed_step) == (None, None)


def test_once_abandoned_it_commits_nothing(agent: Agent, run: RunDirectory, store: MemoryStore) -> None:
    agent.abandon()
    write(run, 10)
    threading.Event().wait(0.1)
    assert head_of(store).checkpoint is None


def test_a_file_that_cannot_be_stored_is_told_and_stops_nothing_later(
    agent: Agent, run: RunDirectory, store: MemoryStore, told: Told
) -> None:
    write(run, 10, extra="a name with spaces")
    wait_until(lambda: told, "it is told", 10)
    assert "'jobs/digits/checkpoints/000000000010-g000001/a name with spaces' cannot be a key" in told[0][1]
    write(run, 20)
    agent.wait_for(20)


# --- keeping and removing ---------------------------------------------------------------------------------------------


def test_what_only_lies_among_the_checkpoints_disturbs_nothing(
    agent: Agent, run: RunDirectory, store: MemoryStore
) -> None:
    store.put("jobs/digits/checkpoints/backup/model.pt", b"a person's own")
    write(run, 10)
    agent.wait_for(10)
    agent.settle()
    assert not agent.committer.crashed
    assert store.get("jobs/digits/checkpoints/backup/model.pt") is not None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_its_own_is_known(agent: Agent, run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "commit", lambda *_: 1 / 0)
    write(run, 10)
    wait_until(lambda: "committer" not in {thread.name for thread in threading.enumerate()}, "it has ended", 10)
    assert (agent.committer.done, agent.committer.crashed) == (True, True)


def test_so_many_are_kept_and_the_head_always(agent: Agent, run: RunDirectory, store: MemoryStore) -> None:
    for step in (10, 20, 30, 40, 50):
        write(run, step)
        agent.wait_for(step)
    wait_until(lambda: len(names(store)) == 3, "old ones are removed", 10)
    assert names(store) == [f"{step:012d}-g000001" for step in (30, 40, 50)]


def test_what_half_uploads_left_does_not_take_a_sound_ones_place(
    store: MemoryStore, nonce: Nonce, tmp_path: Path
) -> None:
    """With two to keep, there is always a sound one before the head."""
    commit_steps(store, nonce, tmp_path, 10)
    store.put(layout.checkpoint_prefix(JOB, 15, 1) + "state.bin", b"half")
    store.put(layout.checkpoint_prefix(JOB, 99, 1) + "state.bin", b"half, and past the head")
    commit_steps(store, nonce, tmp_path, 20, generation=2)
    remove_old(store, Lineage(JOB, 2, lambda: 1), Manifest(step=20, generation=2, final=False, files=()), 2, nobody)
    assert names(store) == ["000000000010-g000001", "000000000020-g000002"]


def test_a_rejected_one_does_not_take_a_sound_ones_place(store: MemoryStore, nonce: Nonce, tmp_path: Path) -> None:
    commit_steps(store, nonce, tmp_path, 10, 20)
    store.put(layout.checkpoint_prefix(JOB, 20, 1) + "state.bin", b"altered")
    seal(store, JOB, 1, 2, nonce)
    assert restore_into(store, tmp_path / "second", generation=2) == 10
    commit_steps(store, nonce, tmp_path, 30, generation=2)
    remove_old(store, Lineage(JOB, 2, lambda: 1), Manifest(step=30, generation=2, final=False, files=()), 2, nobody)
    assert names(store) == ["000000000010-g000001", "000000000030-g000002"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_whoever_was_superseded_removes_nothing_of_its_successors(
    store: MemoryStore, nonce: Nonce, tmp_path: Path, epoch: int
) -> None:
    """It stood still between its commit and the removal, while the next generation went on."""
    commit_steps(store, nonce, tmp_path, 10, 20, 30, 40)
    seal(store, JOB, epoch, 2, nonce)
    store.put(layout.checkpoint_prefix(JOB, 50, 2) + "state.bin", b"on its way")
    before = [entry.key for entry in store.list("")]
    with pytest.raises((Superseded, NotYetAssigned)):
        remove_old(store, Lineage(JOB, 1, lambda: 1), Manifest(step=40, generation=1, final=False, files=()), 2, nobody)
    assert [entry.key for entry in store.list("")] == before


def test_whoever_is_superseded_while_it_looks_around_removes_nothing(
    store: MemoryStore, nonce: Nonce, tmp_path: Path
) -> None:
    commit_steps(store, nonce, tmp_path, 10, 20, 30, 40)

    def meanwhile(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "prefixes":
            seal(store, JOB, 2, 2, nonce)
            store.put(layout.checkpoint_prefix(JOB, 50, 2) + "state.bin", b"on its way")
        return call()

    with pytest.raises(Superseded):
        remove_old(
            InterposedStore(store, meanwhile),
            Lineage(JOB, 1, lambda: 1),
            Manifest(step=40, generation=1, final=False, files=()),
            2,
            nobody,
        )
    assert len(names(store)) == 5


def test_a_removal_that_fails_is_made_up_for_later(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, store: MemoryStore, told: Told
) -> None:
    shaky.around = Away(frozenset({"delete"}))
    for step in (10, 20, 30, 40):
        write(run, step)
        agent.wait_for(step)
    assert told == []
    shaky.around = undisturbed
    write(run, 50)
    agent.wait_for(50)
    wait_until(lambda: len(names(store)) == 3, "all old ones are removed", 10)


def test_when_nothing_can_be_looked_at_commits_go_on_and_it_is_told_once(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, store: MemoryStore, told: Told
) -> None:
    """A user who may write but not list: every commit succeeds, and no removal does."""
    shaky.around = Away(frozenset({"prefixes"}))
    for step in (10, 20, 30, 40):
        write(run, step)
        agent.wait_for(step)
        wait_until(lambda: run.whole_checkpoints() == [], "the local copy is gone", 10)
    assert [kind for kind, _ in told] == ["note"]
    assert told[0][1].startswith("old checkpoints could not be removed, trying again after the next: prefixes ")
    shaky.around = undisturbed
    write(run, 50)
    agent.wait_for(50)
    wait_until(lambda: len(names(store)) == 3, "all old ones are removed", 10)


def test_who_reads_is_asked_for_only_when_there_is_something_to_remove(
    store: MemoryStore, nonce: Nonce, tmp_path: Path
) -> None:
    """A listing is dear."""
    commit_steps(store, nonce, tmp_path, 10, 20, 30)
    head, lineage = Manifest(step=30, generation=1, final=False, files=()), Lineage(JOB, 1, lambda: 1)
    asked: list[str] = []

    def count() -> tuple[str, ...]:
        asked.append("pins")
        return ()

    remove_old(store, lineage, head, 3, count)
    assert asked == []
    remove_old(store, lineage, head, 2, count)
    assert asked != []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a thread has no priority of its own")
def test_an_agent_that_was_started_nicer_commits_as_nicely(
    store: MemoryStore, shaky: InterposedStore, run: RunDirectory, nonce: Nonce, told: Told
) -> None:
    """Only root may take niceness back: for anybody else the thread would end before it has committed anything."""
    agents: list[Agent] = []

    def start() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS + 5)  # threads inherit it
        agents.append(Agent(shaky, run, nonce, told))

    seal(store, JOB, 1, 1, nonce)
    starter = threading.Thread(target=start)
    starter.start()
    starter.join(10)
    [agent] = agents
    write(run, 10)
    agent.wait_for(10)
    [committing] = [thread for thread in threading.enumerate() if thread.name == "committer"]
    assert committing.native_id is not None
    assert os.getpriority(os.PRIO_PROCESS, committing.native_id) == NICENESS + 5
    agent.settle()
    assert not agent.committer.crashed


def test_a_checkpoint_that_somebody_reads_stays_until_nobody_does(
    agent: Agent, run: RunDirectory, store: MemoryStore, nonce: Nonce
) -> None:
    write(run, 10)
    agent.wait_for(10)
    claim = pin(store, JOB, layout.checkpoint_prefix(JOB, 10, 1), by="a reader", nonce=nonce)
    for step in (20, 30, 40, 50):
        write(run, step)
        agent.wait_for(step)
    wait_until(lambda: len(names(store)) == 4, "what nobody reads is removed", 10)
    assert names(store) == [f"{step:012d}-g000001" for step in (10, 30, 40, 50)]
    assert store.get(layout.manifest_key(layout.checkpoint_prefix(JOB, 10, 1))) is not None
    unpin(store, JOB, claim.value.nonce)
    write(run, 60)
    agent.wait_for(60)
    wait_until(lambda: len(names(store)) == 3, "now it is removed too", 10)


def test_a_reader_that_comes_while_a_checkpoint_is_being_removed_keeps_it(
    store: MemoryStore, nonce: Nonce, tmp_path: Path
) -> None:
    """It claims, and then looks whether the manifest is there: what it has found must not go under its hands."""
    commit_steps(store, nonce, tmp_path, 10, 20, 30)
    oldest = layout.checkpoint_prefix(JOB, 10, 1)
    found: list[bool] = []

    def reader(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "delete" and key == layout.manifest_key(oldest) and not found:
            pin(store, JOB, oldest, by="a reader", nonce=nonce)
            found.append(store.get(key) is not None)
        return call()

    before = [entry.key for entry in store.list(oldest)]
    pins = PinWatch(store, JOB, lambda: 0.0)
    head = Manifest(step=30, generation=1, final=False, files=())
    remove_old(InterposedStore(store, reader), Lineage(JOB, 1, lambda: 1), head, 2, pins.pinned)
    assert found == [True]
    assert [entry.key for entry in store.list(oldest)] == before


def test_an_upload_that_failed_half_way_is_gone_on_with(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, store: MemoryStore
) -> None:
    uploaded: list[str] = []
    broken = True

    def breaks(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "upload":
            uploaded.append(key.rsplit("/", 1)[-1])
            if broken and key.endswith("state.bin"):
                raise StoreError("the network is gone")
        return call()

    shaky.around = breaks
    write(run, 10)
    wait_until(lambda: uploaded.count("state.bin") > 1, "it has tried again", 10)
    assert store.get(layout.checkpoint_prefix(JOB, 10, 1) + "meta.json") is not None, "what is there stays"
    broken = False
    agent.wait_for(10)
    assert uploaded.count("meta.json") == 1
    assert restore_into(store, run.path.parent / "again") == 10


def test_on_a_full_disk_nothing_half_stays(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, store: MemoryStore
) -> None:
    """It would stay full, and no newer checkpoint would ever fit."""
    tried: list[str] = []

    def full(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "upload" and key.endswith("state.bin"):
            tried.append(key)
            raise StoreError("Cannot write: the disk is full.") from OSError(errno.ENOSPC, "No space left on device")
        return call()

    shaky.around = full
    write(run, 10)
    wait_until(lambda: tried, "it has tried", 10)
    agent.abandon()
    assert names(store) == []


# --- restoring --------------------------------------------------------------------------------------------------------


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


def test_what_was_committed_comes_back_and_is_told_of_by_nobody(
    store: MemoryStore, nonce: Nonce, tmp_path: Path, told: Told
) -> None:
    commit_steps(store, nonce, tmp_path, 10, 20)
    assert restore_into(store, tmp_path / "run", told) == 20
    assert sorted(path.name for path in (tmp_path / "run" / "resume").iterdir()) == ["meta.json", "state.bin"]
    assert told == []


def test_without_a_checkpoint_it_starts_anew(store: MemoryStore, nonce: Nonce, tmp_path: Path, told: Told) -> None:
    seal(store, JOB, 1, 1, nonce)
    assert restore_into(store, tmp_path / "run", told) == 0
    assert told == []


def tear(store: MemoryStore, prefix: str) -> None:
    """Half of a file."""
    store.put(prefix + "state.bin", b"state a")


def alter(store: MemoryStore, prefix: str) -> None:
    """One bit of a file."""
    found = store.get(prefix + "state.bin")
    assert found is not None
    store.put(prefix + "state.bin", bytes([found.body[0] ^ 1]) + found.body[1:])


def lose_file(store: MemoryStore, prefix: str) -> None:
    """A file is not there."""
    store.delete(prefix + "state.bin")


def lose_manifest(store: MemoryStore, prefix: str) -> None:
    """The manifest is not there."""
    store.delete(layout.manifest_key(prefix))


def garble_manifest(store: MemoryStore, prefix: str) -> None:
    """The manifest is no manifest."""
    store.put(layout.manifest_key(prefix), b"{]")


def escape_by_manifest(store: MemoryStore, prefix: str) -> None:
    """The manifest names a file outside."""
    body = b'{"step": 20, "generation": 1, "final": false, "files": [{"name": "../x", "size_bytes": 1, "sha256": ""}]}'
    store.put(layout.manifest_key(prefix), body)


DAMAGE: dict[str, tuple[Callable[[MemoryStore, str], None], str]] = {
    "torn": (tear, "has 7 bytes instead of 11"),
    "altered": (alter, "has another SHA-256 than its manifest says"),
    "file missing": (lose_file, "state.bin is missing"),
    "manifest missing": (lose_manifest, "its manifest is missing or unreadable"),
    "manifest garbled": (garble_manifest, "its manifest is missing or unreadable"),
    "manifest escapes": (escape_by_manifest, "its manifest is missing or unreadable"),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_never_loaded_and_the_one_before_it_is(
    store: MemoryStore, nonce: Nonce, tmp_path: Path, told: Told, damage: Callable[[MemoryStore, str], None], why: str
) -> None:
    commit_steps(store, nonce, tmp_path, 10, 20)
    damage(store, layout.checkpoint_prefix(JOB, 20, 1))
    assert restore_into(store, tmp_path / "run", told) == 10
    assert [kind for kind, _ in told] == ["checkpoint_rejected"]
    assert why in told[0][1]
    assert "resuming from step 10" in told[0][1]
    head = head_of(store)
    assert (head.step, head.rejected) == (10, (layout.checkpoint_prefix(JOB, 20, 1),))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("times", [1, 2])
def test_what_came_wrong_once_is_fetched_again_and_condemned_if_it_comes_so_twice(
    shaky: InterposedStore, store: MemoryStore, nonce: Nonce, tmp_path: Path, told: Told, times: int
) -> None:
    """A bit that fell over on the way, or in this machine's memory, says nothing about what lies in the bucket."""
    commit_steps(store, nonce, tmp_path, 10, 20)
    fetched = 0

    def flips(operation: Operation, key: str, call: Callable[[], object]) -> object:
        nonlocal fetched
        if operation != "download" or not key.endswith("000000000020-g000001/state.bin"):
            return call()
        call()
        fetched += 1
        path = tmp_path / "run" / "resume" / "state.bin"
        if fetched <= times:
            path.write_bytes(b"S" + path.read_bytes()[1:])
        return file_sha256(path)

    shaky.around = flips
    assert restore_into(shaky, tmp_path / "run", told) == {1: 20, 2: 10}[times]
    assert fetched == 2
    assert len(told) == len(head_of(store).rejected) == times - 1


def test_when_all_are_damaged_it_starts_anew(store: MemoryStore, nonce: Nonce, tmp_path: Path, told: Told) -> None:
    commit_steps(store, nonce, tmp_path, 10, 20, 30)
    for step, damage in ((10, alter), (20, tear), (30, lose_file)):
        damage(store, layout.checkpoint_prefix(JOB, step, 1))
    assert restore_into(store, tmp_path / "run", told) == 0
    assert "starting anew" in told[-1][1]
    assert (head_of(store).checkpoint, head_of(store).step, len(head_of(store).rejected)) == (None, 0, 3)


def test_what_was_rejected_once_is_not_gone_back_to(store: MemoryStore, nonce: Nonce, tmp_path: Path) -> None:
    commit_steps(store, nonce, tmp_path, 10, 20)
    original = store.get(layout.checkpoint_prefix(JOB, 20, 1) + "state.bin")
    assert original is not None
    alter(store, layout.checkpoint_prefix(JOB, 20, 1))
    assert restore_into(store, tmp_path / "run") == 10
    commit_steps(store, nonce, tmp_path, 30, generation=2)
    store.put(original.key, original.body)  # sound again, but who knows for how long
    alter(store, layout.checkpoint_prefix(JOB, 30, 2))
    assert restore_into(store, tmp_path / "again") == 10


def test_a_restore_that_was_interrupted_fetches_only_what_is_missing(
    shaky: InterposedStore, store: MemoryStore, nonce: Nonce, tmp_path: Path
) -> None:
    commit_steps(store, nonce, tmp_path, 10)
    run = RunDirectory(tmp_path / "run")
    run.prepare({})
    order = Assignment(epoch=1, job=JOB, generation=1, action="run", resume=layout.checkpoint_prefix(JOB, 10, 1))
    fetched: list[str] = []

    def breaks_once(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "download":
            fetched.append(key.rsplit("/", 1)[-1])
            if fetched == ["meta.json", "state.bin"]:
                raise StoreError("the network is gone")
        return call()

    shaky.around = breaks_once
    with pytest.raises(StoreError, match="the network is gone"):
        at_once(restore(shaky, order, run, nonce, lambda *_: None))
    assert at_once(restore(shaky, order, run, nonce, lambda *_: None)) == 10
    assert fetched == ["meta.json", "state.bin", "state.bin"]


def test_a_store_that_is_away_condemns_no_checkpoint(
    shaky: InterposedStore, store: MemoryStore, nonce: Nonce, tmp_path: Path, told: Told
) -> None:
    commit_steps(store, nonce, tmp_path, 10, 20)
    shaky.around = Away(frozenset({"download"}))
    with pytest.raises(StoreError, match="does not answer"):
        restore_into(shaky, tmp_path / "run", told)
    assert told == []
    assert (head_of(store).step, head_of(store).rejected) == (20, ())


def test_who_was_superseded_condemns_no_checkpoint(store: MemoryStore, nonce: Nonce, tmp_path: Path) -> None:
    commit_steps(store, nonce, tmp_path, 10, 20)
    alter(store, layout.checkpoint_prefix(JOB, 20, 1))
    seal(store, JOB, 2, 2, nonce)
    with pytest.raises(Superseded):
        restore_into(store, tmp_path / "run", generation=1)
    assert head_of(store).rejected == ()
