"""However ranks reach each other, they come to the same bits: those of the tree over all shards."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.launch import BOUND_S
from trainer.errors import ConfigError, TrainerError
from trainer.exchange import Alone, Messages, SharedMemory, open_exchange
from trainer.shards import spares_for, sum_shards
from trainer.world import World, join_world

SIZE, SHARDS = 10_001, 8
CPU = torch.device("cpu")


def shard(number: int) -> torch.Tensor:
    """Numbers of many magnitudes, so that the order of additions shows in the sum."""
    generator = torch.Generator().manual_seed(number)
    return torch.randn(SIZE, generator=generator) * 10 ** torch.randint(-6, 6, (SIZE,), generator=generator)


def tree(shards: range, out: torch.Tensor) -> torch.Tensor:
    def contribute(number: int) -> None:
        out.add_(shard(number))

    sum_shards(shards, contribute, out, spares_for(len(shards), out))
    return out


def test_the_tree_adds_neighbours_first() -> None:
    expected = (shard(0) + shard(1)) + (shard(2) + shard(3))
    in_a_row = ((shard(0) + shard(1)) + shard(2)) + shard(3)
    assert torch.equal(tree(range(4), torch.empty(SIZE)), expected)
    assert not torch.equal(expected, in_a_row)  # so the order does show


def test_a_process_alone_needs_no_exchange() -> None:
    exchange = open_exchange(World(0, 1, CPU), SIZE)
    assert isinstance(exchange, Alone)
    assert exchange.own is exchange.total


def _join(rank: int, ranks: int, store: Path) -> World:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    return World(rank, ranks, CPU)


def _rank(rank: int, ranks: int, store: Path, answers: Any) -> None:
    world = _join(rank, ranks, store)
    expected = tree(range(SHARDS), torch.empty(SIZE))
    shared = open_exchange(world, SIZE)
    seen = {"chosen": type(shared).__name__}
    for exchange in (shared, Messages(world, SIZE)):
        for _ in range(3):  # again and again in the same memory, as in a run
            tree(world.shards(SHARDS), exchange.own)
            exchange.sum()
            same = torch.equal(exchange.total, expected)
            seen[type(exchange).__name__] = "same bits" if same else "other bits"
    counts = world.sum_counts(torch.tensor([rank, 1]))
    seen["counts"] = str(counts.tolist())
    try:
        world.require_agreement({"seed": 1, "steps": 5 if rank < ranks - 1 else 6})
    except ConfigError as error:
        seen["disagreement"] = str(error)
    answers.put((rank, seen))
    world.leave()


def _sharer(rank: int, ranks: int, store: Path, answers: Any) -> None:
    """All ranks keep the total of all but the last numbers in common, each what falls to it."""
    world = _join(rank, ranks, store)
    expected, kept = tree(range(SHARDS), torch.empty(SIZE)), SIZE - 7
    parts = [slice(start, min(start + 1000, kept)) for start in range(0, kept, 1000)]
    exchange = open_exchange(world, SIZE, common=kept)
    assert exchange.common is not None and exchange.common.shape == (kept,)
    common, done, seen = exchange.common, list[int](), list[bool]()

    def keep(part: slice) -> None:
        done.append(part.start // 1000)
        common[part] = exchange.total[part]

    for _ in range(3):
        done.clear()
        tree(world.shards(SHARDS), exchange.own)
        exchange.sum_in_parts(parts, keep)
        seen += [torch.equal(common, expected[:kept]), torch.equal(exchange.total[kept:], expected[kept:])]
        world.wait_for_all()
        common[done[0] * 1000] = 0  # it has to be made anew
        world.wait_for_all()
    answers.put((rank, (done, all(seen))))
    world.leave()


def _leaver(rank: int, ranks: int, store: Path, answers: Any) -> None:
    """All ranks add once; then the first one ends, and the others want to add again."""
    exchange = open_exchange(_join(rank, ranks, store), SIZE)
    exchange.sum()
    if rank == 0:
        answers.put((rank, "ended"))
        answers.close()
        answers.join_thread()
        os._exit(0)
    try:
        exchange.sum()
    except TrainerError as error:
        answers.put((rank, str(error)))


def _answers(target: Callable[..., None], ranks: int, store: Path) -> dict[int, Any]:
    """What each rank answers; all have ended well."""
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    processes = [spawn.Process(target=target, args=(rank, ranks, store, answers)) for rank in range(ranks)]
    try:
        for process in processes:
            process.start()
        seen = dict(answers.get(timeout=BOUND_S) for _ in processes)
        for process in processes:
            process.join(BOUND_S)
    finally:
        for process in processes:
            process.kill()
            process.join(BOUND_S)
    assert [process.exitcode for process in processes] == [0] * ranks
    return seen


@pytest.mark.parametrize("ranks", [4])
def test_ranks_add_up_to_the_same_bits_by_memory_and_by_messages(ranks: int, tmp_path: Path) -> None:
    seen = _answers(_rank, ranks, tmp_path / "store")
    for rank, found in seen.items():
        other = ranks - 1 if rank < ranks - 1 else 0
        mine, theirs = (5, 6) if rank < ranks - 1 else (6, 5)
        assert found == {
            "chosen": SharedMemory.__name__,
            "SharedMemory": "same bits",
            "Messages": "same bits",
            "counts": str([sum(range(ranks)), ranks]),
            "disagreement": f"the ranks disagree on steps: {mine} on rank {rank}, {theirs} on rank {other}",
        }


@pytest.mark.parametrize(("ranks", "shares"), [(2, [5, 5]), (4, [2, 3, 2, 3])])
def test_what_lies_in_common_memory_is_made_by_one_rank_and_seen_by_all(
    ranks: int, shares: list[int], tmp_path: Path
) -> None:
    seen = _answers(_sharer, ranks, tmp_path / "store")
    assert [len(seen[rank][0]) for rank in range(ranks)] == shares
    assert sorted(part for done, _ in seen.values() for part in done) == list(range(10)), "each part by one of them"
    assert all(right for _, right in seen.values())


def test_a_rank_alone_does_all_parts_itself() -> None:
    exchange = open_exchange(World(0, 1, CPU), SIZE, common=SIZE)
    assert exchange.common is None
    tree(range(SHARDS), exchange.own)
    done: list[slice] = []
    exchange.sum_in_parts([slice(0, 5000), slice(5000, SIZE)], done.append)
    assert done == [slice(0, 5000), slice(5000, SIZE)]


@pytest.mark.parametrize("ranks", [2, 4])
def test_nobody_waits_for_a_rank_that_has_ended(ranks: int, tmp_path: Path) -> None:
    seen = _answers(_leaver, ranks, tmp_path / "store")
    assert seen.pop(0) == "ended"
    assert list(seen) and all("lost contact with the other ranks" in told for told in seen.values())


def test_shards_that_do_not_divide_are_refused_with_a_number_that_does() -> None:
    assert [list(World(rank, 4, CPU).shards(8)) for rank in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    with pytest.raises(ConfigError, match="3 ranks cannot share 8 shards evenly; start 2"):
        World(0, 3, CPU).shards(8)
    with pytest.raises(ConfigError, match="16 ranks cannot share 8 shards evenly; start 8"):
        World(0, 16, CPU).shards(8)


def test_without_torchruns_environment_a_process_is_alone() -> None:
    world = join_world({})
    assert (world.rank, world.size, world.is_leader) == (0, 1, True)
