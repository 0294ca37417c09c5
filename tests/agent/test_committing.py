"""Checkpoints on their way to the bucket: nothing half is ever the head."""

import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from orchestrator.agent import checkpoints
from orchestrator.agent.run_directory import LocalCheckpoint, RunDirectory
from orchestrator.jobs import layout
from orchestrator.jobs.head import Manifest, load_manifest, seal
from orchestrator.store.memory import MemoryStore
from tests.agent.committing import (
    JOB,
    Agent,
    Nonce,
    Told,
    head_of,
    names,
    restore_into,
    write,
)
from tests.support.interposed import Away, InterposedStore, LostReplies, undisturbed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("quick")


def test_what_the_trainer_writes_is_uploaded_committed_and_removed(
    agent: Agent, run: RunDirectory, store: MemoryStore
) -> None:
    write(run, 10)
    agent.wait_for(10)
    head = head_of(store)
    assert (head.step, head.final, head.checkpoint) == (10, False, layout.checkpoint_prefix(JOB, 10, 1))
    found = store.get(layout.manifest_key(layout.checkpoint_prefix(JOB, 10, 1)))
    assert found is not None
    manifest = Manifest.model_validate_json(found.body)
    assert {file.name: file.sha256 for file in manifest.files} == as_written(10)
    assert {file.name: file.size_bytes for file in manifest.files} == {"state.bin": 11, "meta.json": 12}
    wait_until(lambda: run.whole_checkpoints() == [], "the local copy is gone", 10)


def said(run: RunDirectory, step: int, digests: dict[str, str]) -> None:
    """A checkpoint whose trainer says what its files were meant to be."""
    write(run, step, extra="trainer-sha256.json", content=json.dumps(digests))


def as_written(step: int) -> dict[str, str]:
    contents = {"state.bin": f"state at {step}", "meta.json": f'{{"step": {step}}}'}
    return {name: sha256(content.encode()).hexdigest() for name, content in contents.items()}


def committed(store: MemoryStore, step: int) -> dict[str, str]:
    manifest = load_manifest(store, layout.checkpoint_prefix(JOB, step, 1))
    assert manifest is not None
    return {file.name: file.sha256 for file in manifest.files}


def test_what_the_trainer_has_hashed_is_committed_so(agent: Agent, run: RunDirectory, store: MemoryStore) -> None:
    said(run, 10, as_written(10))
    agent.wait_for(10)
    assert committed(store, 10) == as_written(10)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "no JSON",
        json.dumps({"state.bin": "0" * 64}),
        json.dumps({**as_written(10), "other": "0" * 64}),
        json.dumps(dict.fromkeys(as_written(10), "not a digest")),
        json.dumps(dict.fromkeys(as_written(10), 7)),
    ],
)
def test_a_file_of_that_name_that_means_something_else_is_kept_like_any(
    agent: Agent, run: RunDirectory, store: MemoryStore, content: str
) -> None:
    write(run, 10, extra="trainer-sha256.json", content=content)
    agent.wait_for(10)
    assert committed(store, 10) == {**as_written(10), "trainer-sha256.json": sha256(content.encode()).hexdigest()}


def test_what_was_altered_on_the_disk_is_not_committed_and_the_one_before_it_is(
    store: MemoryStore, run: RunDirectory, nonce: Nonce, told: Told
) -> None:
    seal(store, JOB, 1, 1, nonce)
    said(run, 10, as_written(10))
    said(run, 20, {**as_written(20), "state.bin": "0" * 64})
    agent = Agent(InterposedStore(store), run, nonce, told)
    wait_until(lambda: told != [], "it is told")
    agent.settle()
    assert head_of(store).step == 10
    ((kind, message),) = told
    assert kind == "checkpoint_failed"
    assert message.startswith("step 20 is lost: ") and "state.bin has been altered since it was written" in message
    assert run.whole_checkpoints() == []


@pytest.mark.parametrize("tells_digests", [True, False])
@pytest.mark.parametrize("at", ["meta.json", "state.bin"])
def test_one_that_is_replaced_while_it_is_uploaded_is_uploaded_anew_and_whole(
    agent: Agent,
    run: RunDirectory,
    shaky: InterposedStore,
    store: MemoryStore,
    told: Told,
    at: str,
    tells_digests: bool,
) -> None:
    """Just before and just after its first file has been read: what was read is of both."""
    other = {**as_written(10), "meta.json": sha256(b"written again").hexdigest()}
    extra = "trainer-sha256.json" if tells_digests else ""

    def replace_at_first(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "upload" and key.endswith(at):
            shaky.around = undisturbed
            write(run, 10, meta="written again", extra=extra, content=json.dumps(other))
        return call()

    shaky.around = replace_at_first
    write(run, 10, extra=extra, content=json.dumps(as_written(10)))
    agent.wait_for(10)
    agent.settle()
    assert committed(store, 10) == other
    assert restore_into(store, run.path.parent / "again") == 10
    assert told == []


def test_one_that_has_replaced_what_was_committed_is_not_removed_unseen(run: RunDirectory) -> None:
    first = write(run, 10)
    assert not first.replaced
    os.utime(write(run, 10, final=True).path, (1, 1))  # two written within a tick of the clock have the same time
    assert first.replaced
    first.remove()
    (second,) = run.whole_checkpoints()
    assert second.final
    second.remove()
    assert not second.replaced, "it is gone"
    assert run.whole_checkpoints() == []


def test_it_is_removed_also_where_inodes_are_counted_anew_or_a_file_was_added(run: RunDirectory) -> None:
    for step, changes in ((10, {"inode": 0}), (20, {"changed_ns": 0})):
        checkpoint = write(run, step)
        replace(checkpoint, identity=replace(checkpoint.identity, **changes)).remove()
    assert run.whole_checkpoints() == []


@pytest.mark.parametrize("applied", [True, False])
def test_one_that_is_replaced_once_its_manifest_was_sent_stays_as_it_was_sent(
    agent: Agent, run: RunDirectory, shaky: InterposedStore, store: MemoryStore, applied: bool
) -> None:
    def lose_reply_and_replace(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "create" and key.endswith("manifest.json"):
            shaky.around = undisturbed
            write(run, 10, meta="written again")
            return LostReplies("", applied=applied)("create", key, call)
        return call()

    shaky.around = lose_reply_and_replace
    write(run, 10)
    agent.wait_for(10)
    agent.settle()
    assert committed(store, 10) == as_written(10)
    assert restore_into(store, run.path.parent / "again") == 10


def test_the_last_one_in_place_of_one_that_is_being_committed_is_not_lost_unseen(
    agent: Agent, run: RunDirectory, shaky: InterposedStore
) -> None:
    """The trainer has written a step twice, which it must not; that is told."""

    def replace_at_commit(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "replace" and key.endswith("head.json"):
            shaky.around = undisturbed
            write(run, 10, final=True)
        return call()

    shaky.around = replace_at_commit
    write(run, 10)
    agent.wait_for(10)
    agent.settle()
    assert "as its last checkpoint after it had written it as another" in agent.committer.fault


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


@pytest.mark.parametrize("name", ["a name with spaces", "manifest.json", "-" * 201])
def test_a_file_that_cannot_be_kept_would_be_there_again(
    agent: Agent, run: RunDirectory, store: MemoryStore, name: str
) -> None:
    write(run, 10, extra=name)
    wait_until(lambda: agent.committer.done, "it gives up", 10)
    assert agent.committer.hopeless
    assert f"the checkpoint of step 10 holds a file {name!r}, which cannot be kept" in agent.committer.fault
    assert head_of(store).checkpoint is None


def test_files_in_directories_of_a_checkpoint_are_kept_and_come_back(
    agent: Agent, run: RunDirectory, store: MemoryStore, tmp_path: Path
) -> None:
    part = run.checkpoints / ".part"
    (part / "shards" / "optimizer").mkdir(parents=True)
    (part / "shards" / "optimizer" / "0.bin").write_bytes(b"moments")
    (part / "shards" / "0.bin").write_bytes(b"weights")
    (part / ".metadata").write_bytes(b"")
    part.rename(run.checkpoints / "step-000000000010")
    agent.wait_for(10)
    checkpoint = head_of(store).checkpoint
    assert checkpoint is not None
    manifest = load_manifest(store, checkpoint)
    assert manifest is not None
    assert [file.name for file in manifest.files] == [".metadata", "shards/0.bin", "shards/optimizer/0.bin"]
    fresh = RunDirectory(tmp_path / "fresh")
    for file in manifest.files:
        assert fresh.bring(store, checkpoint + file.name, file) is None
    assert (fresh.resume / "shards" / "optimizer" / "0.bin").read_bytes() == b"moments"


def test_nothing_can_be_committed_from_what_is_no_directory_of_checkpoints(agent: Agent, run: RunDirectory) -> None:
    run.checkpoints.rename(run.path / "elsewhere")
    run.checkpoints.symlink_to(run.path / "elsewhere")
    wait_until(lambda: agent.committer.done, "it gives up", 10)
    assert (agent.committer.hopeless, agent.committer.crashed) == (True, False)
    assert "checkpoints in the run directory is a link or a file" in agent.committer.fault


def test_checkpoints_that_cannot_be_looked_at_now_are_looked_at_again(
    agent: Agent, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the agent has too many open files."""
    looks: list[bool] = []

    def refused_once(self: RunDirectory) -> list[LocalCheckpoint]:
        looks.append(True)
        if len(looks) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return whole_checkpoints(self)

    whole_checkpoints = RunDirectory.whole_checkpoints
    monkeypatch.setattr(RunDirectory, "whole_checkpoints", refused_once)
    write(run, 10)
    agent.wait_for(10)
    assert looks
