"""Sums over shards in a fixed binary tree, so that they have the same bits however the shards are spread over ranks.

Floating-point addition commutes but does not associate: a + b equals b + a, (a + b) + c need not equal a + (b + c).
So what must be fixed is which pairs are added. With 4 shards it is (0 + 1) + (2 + 3), always: a rank that holds shards
0 and 1 adds its half by itself, and `exchange` adds the halves of neighbouring ranks.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def spares_for(shards: int, buffer: Tensor) -> list[Tensor]:
    """The spare buffers that `sum_shards` needs for so many shards: one a level of the tree above its leaves' pairs."""
    return [torch.empty_like(buffer) for _ in range(max(0, shards.bit_length() - 2))]


def sum_shards(shards: Sequence[int], add: Callable[[int], None], buffer: Tensor, spares: Sequence[Tensor]) -> None:
    """Leave in `buffer` the tree sum over the shards, a power of two of them.

    `add` adds what a shard contributes to `buffer`, each element once, as backward passes do: so the sum of a pair of
    leaves comes about by itself, 0 + a being a, and only what is above them takes copies and additions.
    """
    if len(shards) <= 2:
        buffer.zero_()
        for shard in shards:
            add(shard)
        return
    half = len(shards) // 2
    sum_shards(shards[:half], add, buffer, spares[1:])
    spares[0].copy_(buffer)
    sum_shards(shards[half:], add, buffer, spares[1:])
    buffer.add_(spares[0])
