"""Old checkpoints: so many are kept, and never is one removed that the head names or somebody reads."""

import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agent import checkpoints
from orchestrator.agent.background import NICENESS
from orchestrator.agent.checkpoints import Lineage, remove_old
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.jobs import layout
from orchestrator.jobs.head import Manifest, NotYetAssigned, Superseded, seal
from orchestrator.jobs.pins import PinWatch, pin, unpin
from orchestrator.store import StoreError
from orchestrator.store.memory import MemoryStore
from tests.agent.committing import (
    JOB,
    Agent,
    Nonce,
    Told,
    commit_steps,
    names,
    nobody,
    restore_into,
    write,
)
from tests.support.interposed import Away, InterposedStore, undisturbed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("quick")


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
    others = set(threading.enumerate())  # also one of an earlier test, which is done and about to end
    starter = threading.Thread(target=start)
    starter.start()
    starter.join(10)
    [agent] = agents
    write(run, 10)
    agent.wait_for(10)
    [committing] = [thread for thread in set(threading.enumerate()) - others if thread.name == "committer"]
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
