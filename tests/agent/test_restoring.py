"""Checkpoints on their way back: nothing altered is ever loaded, and nothing sound is condemned."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agent.checkpoints import restore
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.jobs import layout
from orchestrator.jobs.head import Superseded, seal
from orchestrator.jobs.instances import Assignment
from orchestrator.store import StoreError
from orchestrator.store.disk import file_sha256
from orchestrator.store.memory import MemoryStore
from tests.agent.committing import (
    JOB,
    Nonce,
    Told,
    at_once,
    commit_steps,
    head_of,
    restore_into,
)
from tests.support.interposed import Away, InterposedStore, Operation

pytestmark = pytest.mark.usefixtures("quick")


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
    head, names = head_of(store), [layout.checkpoint_prefix(JOB, step, 1) for step in (30, 10)]
    assert (head.checkpoint, head.step, list(head.rejected)) == (None, 0, names), "what is torn shows it in a listing"


def test_the_head_never_moves_to_what_lacks_a_file(
    store: MemoryStore, nonce: Nonce, tmp_path: Path, told: Told
) -> None:
    """As when a manifest came so late that the files had been removed as half uploaded."""
    commit_steps(store, nonce, tmp_path, 10, 20, 30)
    lose_file(store, layout.checkpoint_prefix(JOB, 20, 1))
    alter(store, layout.checkpoint_prefix(JOB, 30, 1))
    assert restore_into(store, tmp_path / "run", told) == 10
    assert [kind for kind, _ in told] == ["checkpoint_rejected"]


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
