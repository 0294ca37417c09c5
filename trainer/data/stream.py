"""Batches whose images are read while the device trains on those before."""

import time
from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainer.config import Loading
from trainer.data.batches import Batch
from trainer.data.dataset import Array
from trainer.data.loader import Loader, worker_count
from trainer.data.sources import ArraySource, Attempt, Source, pixels_or_raise
from trainer.sampling import Sampler


class StreamedBatches:
    """Batches read ahead by loader processes, step by step: all of this rank's shards at once.

    What a step sees is known beforehand; if another than the next is asked for, as after a roll-back, the processes
    begin anew from there.
    """

    def __init__(
        self,
        setting: Loading,
        source: Source,
        classes: Tensor,
        sampler: Sampler,
        shards: Sequence[int],
        step: int,
        device: torch.device,
    ) -> None:
        self._source, self._classes, self._sampler, self._shards = source, classes, sampler, list(shards)
        self._prefetch, self._device, self._workers = setting.prefetch, device, worker_count(setting.workers)
        if setting.workers == "auto" and isinstance(source, ArraySource):
            self._workers = 1  # there is nothing to decode: more would only pass bytes along
        self._classes_ahead: deque[list[Tensor]] = deque()
        self._step, self._batches = step - 1, dict[int, Batch]()
        self._loader = self._open(step)
        self.wait_s = 0.0

    def take(self, step: int, shard: int) -> Batch:
        """Raises TrainerError when an image cannot be read any more or a loader process died."""
        start = time.perf_counter()
        if step != self._step:
            if step != self._step + 1:
                self.close()
                self._loader = self._open(step)
            self._step, self._batches = step, self._next()
        self.wait_s += time.perf_counter() - start
        return self._batches[shard]

    def close(self) -> None:
        self._loader.close()
        self._classes_ahead.clear()

    def _open(self, step: int) -> Loader[Tensor | str]:
        return Loader(
            Attempt(self._source),
            self._parts(step),
            workers=self._workers,
            prefetch=self._prefetch,
            pin=self._device.type == "cuda",
        )

    def _next(self) -> dict[int, Batch]:
        """The batches of the next step, by shard: one copy to the device for all."""
        pixels = pixels_or_raise(next(self._loader)).to(self._device, non_blocking=True).chunk(len(self._shards))
        by_shard = self._classes_ahead.popleft()
        classes = torch.cat(by_shard)
        if self._device.type == "cuda":
            classes = classes.pin_memory()
        on_device = torch.split(classes.to(self._device, non_blocking=True), [len(each) for each in by_shard])
        return {shard: Batch(pixels[i], on_device[i]) for i, shard in enumerate(self._shards)}

    def _parts(self, step: int) -> Iterator[Array]:
        """The images of each step from here on, without an end."""
        while True:
            labelled = [self._sampler.labelled(step, shard) for shard in self._shards]
            others = [self._sampler.unlabelled(step, shard) for shard in self._shards]
            self._classes_ahead.append([self._classes[indices] for indices in labelled])
            yield torch.cat([part for pair in zip(labelled, others, strict=True) for part in pair]).numpy()
            step += 1
