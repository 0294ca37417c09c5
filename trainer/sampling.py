"""Which images a step sees: two endless streams, labelled and unlabelled, each a fresh shuffle per pass.

An epoch is one pass over the unlabelled pool; the labelled images cycle meanwhile. All follows from (seed, step).
"""

from collections import OrderedDict

import torch
from torch import Tensor

from trainer.config import TrainingConfig
from trainer.data.pools import Pools
from trainer.keys import Purpose, generator

PASSES_KEPT = 4
"""Shuffles that are remembered: the pass that each stream is in, and the one that a step may reach over to."""


class Sampler:
    """Indices of the training images for any step and shard, without state to save."""

    def __init__(self, config: TrainingConfig, pools: Pools) -> None:
        self._seed = config.seed
        self._shards = config.shards
        self._labelled_batch = config.labelled_batch
        self._unlabelled_batch = config.images_per_step - config.labelled_batch
        self._pools = pools
        self._passes: OrderedDict[tuple[Purpose, int], Tensor] = OrderedDict()

    def labelled(self, step: int, shard: int) -> Tensor:
        """Indices of the labelled images of one shard at one step, counted from 0."""
        return self._slice(self._pools.labelled, Purpose.LABELLED_ORDER, self._labelled_batch, step, shard)

    def unlabelled(self, step: int, shard: int) -> Tensor:
        """Indices of the unlabelled images of one shard at one step; none when supervised."""
        return self._slice(self._pools.unlabelled, Purpose.UNLABELLED_ORDER, self._unlabelled_batch, step, shard)

    def _slice(self, pool: Tensor, purpose: Purpose, batch: int, step: int, shard: int) -> Tensor:
        size = batch // self._shards
        start = step * batch + shard * size
        parts = []
        while size:
            number, offset = divmod(start, len(pool))
            part = self._shuffled(pool, purpose, number)[offset : offset + size]
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return torch.cat(parts) if parts else pool[:0]

    def _shuffled(self, pool: Tensor, purpose: Purpose, number: int) -> Tensor:
        """The pool in the order of one pass; shuffling anew for every shard would cost a large pool milliseconds."""
        key = (purpose, number)
        shuffled = self._passes.get(key)
        if shuffled is None:
            shuffled = pool[torch.randperm(len(pool), generator=generator(self._seed, purpose, number))]
            self._passes[key] = shuffled
            if len(self._passes) > PASSES_KEPT:
                self._passes.popitem(last=False)
        else:
            self._passes.move_to_end(key)
        return shuffled
