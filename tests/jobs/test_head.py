"""The head: whoever holds an older (epoch, generation) can move it no more, and nothing committed is ever lost."""

import threading
from collections.abc import Callable
from itertools import count

import pytest

from orchestrator.jobs import layout
from orchestrator.jobs.head import (
    Head,
    Manifest,
    ManifestFile,
    NotYetAssigned,
    Superseded,
    commit,
    load_head,
    reject,
    seal,
)
from orchestrator.store import Conflict, document
from orchestrator.store.memory import MemoryStore
from tests.support.interposed import InterposedStore, LostReplies

JOB = "digits"
Nonce = Callable[[], str]


def at(step: int, generation: int, *, final: bool = False) -> Manifest:
    return Manifest(step=step, generation=generation, final=final, files=())


def prefix(step: int, generation: int) -> str:
    return layout.checkpoint_prefix(JOB, step, generation)


def head_of(store: MemoryStore | InterposedStore) -> Head:
    stored = load_head(store, JOB)
    assert stored is not None
    return stored.value


def test_the_first_seal_makes_an_empty_head(store: MemoryStore, nonce: Nonce) -> None:
    assert load_head(store, JOB) is None
    seal(store, JOB, 1, 1, nonce)
    head = head_of(store)
    assert (head.epoch, head.generation, head.checkpoint, head.step, head.final) == (1, 1, None, 0, False)


def test_sealing_twice_is_sealing_once(store: MemoryStore, nonce: Nonce) -> None:
    first = seal(store, JOB, 1, 1, nonce)
    assert seal(store, JOB, 1, 1, nonce) == first
    assert load_head(store, JOB) == first


@pytest.mark.parametrize(("epoch", "generation"), [(2, 1), (1, 2), (2, 2), (7, 9)])
def test_a_new_leader_and_a_new_generation_keep_the_checkpoint(
    store: MemoryStore, nonce: Nonce, epoch: int, generation: int
) -> None:
    seal(store, JOB, 1, 1, nonce)
    commit(store, JOB, 1, at(40, 1, final=True), nonce)
    reject(store, JOB, 1, 1, prefix(40, 1), at(30, 1), nonce)
    before = head_of(store)
    sealed = seal(store, JOB, epoch, generation, nonce).value
    assert (sealed.epoch, sealed.generation) == (epoch, generation)
    assert (sealed.checkpoint, sealed.step, sealed.rejected) == (before.checkpoint, 30, (prefix(40, 1),))


@pytest.mark.parametrize(("epoch", "generation"), [(1, 2), (2, 1), (1, 1), (1, 3), (3, 1)])
def test_an_older_pair_cannot_seal(store: MemoryStore, nonce: Nonce, epoch: int, generation: int) -> None:
    seal(store, JOB, 2, 2, nonce)
    before = load_head(store, JOB)
    with pytest.raises(Superseded, match="epoch 2, generation 2"):
        seal(store, JOB, epoch, generation, nonce)
    assert load_head(store, JOB) == before


def test_a_commit_moves_the_head_and_again_is_once(store: MemoryStore, nonce: Nonce) -> None:
    seal(store, JOB, 1, 1, nonce)
    first = commit(store, JOB, 1, at(10, 1), nonce)
    assert commit(store, JOB, 1, at(10, 1), nonce) == first
    second = commit(store, JOB, 1, at(20, 1, final=True), nonce).value
    assert (second.checkpoint, second.step, second.final) == (prefix(20, 1), 20, True)


def test_who_holds_an_older_epoch_has_to_wait_for_its_assignment(store: MemoryStore, nonce: Nonce) -> None:
    seal(store, JOB, 1, 1, nonce)
    commit(store, JOB, 1, at(10, 1), nonce)
    seal(store, JOB, 2, 1, nonce)
    with pytest.raises(NotYetAssigned, match="epoch 2"):
        commit(store, JOB, 1, at(20, 1), nonce)
    assert head_of(store).step == 10
    commit(store, JOB, 2, at(20, 1), nonce)  # told of the new leader, the same generation goes on
    assert head_of(store).step == 20


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_older_generation_can_commit_no_more_whoever_leads(store: MemoryStore, nonce: Nonce, epoch: int) -> None:
    seal(store, JOB, 1, 1, nonce)
    seal(store, JOB, 2, 2, nonce)
    with pytest.raises(Superseded, match="generation 2 has taken over from 1"):
        commit(store, JOB, epoch, at(20, 1), nonce)
    assert head_of(store).checkpoint is None


@pytest.mark.parametrize(("epoch", "generation"), [(1, 2), (2, 1), (2, 2)])
def test_nobody_commits_for_a_pair_that_was_never_sealed(
    store: MemoryStore, nonce: Nonce, epoch: int, generation: int
) -> None:
    with pytest.raises(Superseded, match="no head"):
        commit(store, JOB, epoch, at(10, generation), nonce)
    seal(store, JOB, 1, 1, nonce)
    with pytest.raises(Superseded, match="never sealed"):
        commit(store, JOB, epoch, at(10, generation), nonce)
    assert head_of(store).checkpoint is None


@pytest.mark.parametrize("move", ["seal", "commit", "reject"])
def test_a_lost_reply_is_no_failure_and_no_second_move(nonce: Nonce, move: str) -> None:
    store = InterposedStore(MemoryStore())
    seal(store, JOB, 1, 1, nonce)
    commit(store, JOB, 1, at(10, 1), nonce)
    before = head_of(store).seq
    store.around = LostReplies("head.json", applied=True)
    if move == "seal":
        seal(store, JOB, 1, 2, nonce)
    elif move == "commit":
        commit(store, JOB, 1, at(20, 1), nonce)
    else:
        reject(store, JOB, 1, 1, prefix(10, 1), None, nonce)
    assert head_of(store).seq == before + 1


def test_a_commit_that_was_not_applied_is_tried_again(nonce: Nonce) -> None:
    """Nobody else may move the head of a sealed pair: a conflict that is nobody's is one's own lost request."""
    store = InterposedStore(MemoryStore())
    seal(store, JOB, 1, 1, nonce)
    store.around = LostReplies("head.json", applied=False)
    assert commit(store, JOB, 1, at(10, 1), nonce).value.step == 10


def test_a_seal_that_comes_between_ends_the_commit(nonce: Nonce) -> None:
    inner = MemoryStore()
    seal(inner, JOB, 1, 1, nonce)
    commit(inner, JOB, 1, at(10, 1), nonce)

    def seal_first(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "replace":
            store.around = lambda _operation, _key, call: call()
            seal(inner, JOB, 1, 2, nonce)
        return call()

    store = InterposedStore(inner, seal_first)
    with pytest.raises(Superseded):
        commit(store, JOB, 1, at(20, 1), nonce)
    assert (head_of(store).step, head_of(store).generation) == (10, 2)


def test_a_commit_that_comes_between_is_kept_by_the_seal(nonce: Nonce) -> None:
    inner = MemoryStore()
    seal(inner, JOB, 1, 1, nonce)

    def commit_first(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "replace":
            store.around = lambda _operation, _key, call: call()
            commit(inner, JOB, 1, at(10, 1), nonce)
        return call()

    store = InterposedStore(inner, commit_first)
    with pytest.raises(Conflict):
        seal(store, JOB, 1, 2, nonce)
    assert seal(store, JOB, 1, 2, nonce).value.step == 10


def test_a_head_that_came_back_to_an_old_value_is_not_the_old_head(store: MemoryStore, nonce: Nonce) -> None:
    """A -> B -> A: same checkpoint, same seal; a swap prepared before must fail all the same."""
    seal(store, JOB, 1, 1, nonce)
    commit(store, JOB, 1, at(10, 1), nonce)
    before = load_head(store, JOB)
    assert before is not None
    commit(store, JOB, 1, at(20, 1), nonce)
    now = load_head(store, JOB)
    assert now is not None
    back = document.swap(store, layout.head_key(JOB), now, before.value, nonce)
    content = {"seq", "nonce"}
    assert back.value.model_dump(exclude=content) == before.value.model_dump(exclude=content)
    with pytest.raises(Conflict):
        document.swap(store, layout.head_key(JOB), before, before.value, nonce)


def test_a_rejected_checkpoint_is_left_and_remembered(store: MemoryStore, nonce: Nonce) -> None:
    seal(store, JOB, 1, 1, nonce)
    commit(store, JOB, 1, at(20, 1, final=True), nonce)
    seal(store, JOB, 1, 2, nonce)
    head = reject(store, JOB, 1, 2, prefix(20, 1), at(10, 1), nonce).value
    assert (head.checkpoint, head.step, head.final) == (prefix(10, 1), 10, False)
    head = reject(store, JOB, 1, 2, prefix(10, 1), None, nonce).value
    assert (head.checkpoint, head.step) == (None, 0)
    assert head.rejected == (prefix(20, 1), prefix(10, 1))


def test_the_head_knows_how_large_its_checkpoint_is(store: MemoryStore, nonce: Nonce) -> None:
    def sized(step: int, *sizes: int) -> Manifest:
        files = tuple(ManifestFile(name=f"{n}.pt", size_bytes=size, sha256="") for n, size in enumerate(sizes))
        return at(step, 1).model_copy(update={"files": files})

    assert seal(store, JOB, 1, 1, nonce).value.size_bytes == 0
    commit(store, JOB, 1, sized(10, 5), nonce)
    assert commit(store, JOB, 1, sized(20, 30, 4), nonce).value.size_bytes == 34
    assert reject(store, JOB, 1, 1, prefix(20, 1), sized(10, 5), nonce).value.size_bytes == 5
    assert reject(store, JOB, 1, 1, prefix(10, 1), None, nonce).value.size_bytes == 0


def test_rejecting_twice_is_rejecting_once(store: MemoryStore, nonce: Nonce) -> None:
    seal(store, JOB, 1, 1, nonce)
    commit(store, JOB, 1, at(20, 1), nonce)
    first = reject(store, JOB, 1, 1, prefix(20, 1), at(10, 1), nonce)
    assert reject(store, JOB, 1, 1, prefix(20, 1), None, nonce) == first


def test_only_who_holds_the_head_rejects(store: MemoryStore, nonce: Nonce) -> None:
    seal(store, JOB, 1, 1, nonce)
    commit(store, JOB, 1, at(20, 1), nonce)
    seal(store, JOB, 2, 2, nonce)
    with pytest.raises(Superseded):
        reject(store, JOB, 1, 1, prefix(20, 1), None, nonce)
    with pytest.raises(NotYetAssigned):
        reject(store, JOB, 1, 2, prefix(20, 1), None, nonce)
    assert head_of(store).step == 20


def test_of_all_who_commit_while_seals_pass_by_only_the_sealed_ever_wins(store: MemoryStore) -> None:
    """Threads of three generations commit as fast as they can while the head is sealed onwards."""
    numbers, generations, steps = count(), 3, 20
    seal(store, JOB, 1, 1, lambda: f"n{next(numbers)}")
    committed: list[int] = []

    def train(generation: int) -> None:
        step = 1
        while step <= steps and head_of(store).generation <= generation:
            try:
                commit(store, JOB, 1, at(100 * generation + step, generation), lambda: f"n{next(numbers)}")
                committed.append(generation)
                step += 1
            except Superseded:
                continue  # not sealed yet, or sealed onwards: the loop's condition tells

    def lead() -> None:
        for generation in range(2, generations + 1):
            while committed.count(generation - 1) < 5 or not try_to_seal(generation):
                pass

    def try_to_seal(generation: int) -> bool:
        try:
            seal(store, JOB, 1, generation, lambda: f"n{next(numbers)}")
        except Conflict:
            return False
        return True

    threads = [threading.Thread(target=train, args=(g,), daemon=True) for g in range(1, generations + 1)]
    threads.append(threading.Thread(target=lead, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert (head_of(store).generation, head_of(store).step) == (generations, 100 * generations + steps)
    assert committed.count(generations) == steps
