"""One training step: every shard's gradient, their sum over all ranks, the update of student and teacher."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.augment import augment, normalize, to_channels
from trainer.config import TrainingConfig
from trainer.data import Dataset
from trainer.exchange import open_exchange
from trainer.keys import Purpose, generator
from trainer.mean_teacher import class_loss, consistency_loss, consistency_weight, ema_decay, follow
from trainer.model import INPUT_CHANNELS
from trainer.optim import learning_rate, sgd_update
from trainer.precision import Precision, autocast
from trainer.sampling import Sampler
from trainer.shards import spares_for, sum_shards
from trainer.state import TrainState
from trainer.world import World

STATISTICS_MOMENTUM = 0.1
"""How fast running BatchNorm statistics follow those of the batch: torch's default."""

SCALARS = 3


@dataclass(frozen=True)
class Rates:
    """What a step is computed with; functions of the step alone."""

    learning_rate: float
    consistency_weight: float
    ema_decay: float

    @classmethod
    def at(cls, step: int, config: TrainingConfig) -> "Rates":
        """The rates of a step counted from 0."""
        total, consistency = config.total_steps, config.consistency
        return cls(
            learning_rate(step, total, config.optimizer.lr, config.schedule),
            consistency_weight(step, consistency.ramp_up * total, consistency.weight),
            ema_decay(step + 1, config.ema.decay),
        )


@dataclass(frozen=True)
class Losses:
    """The losses of the last step, over the whole batch, as they were optimised; consistency is before its weight."""

    class_loss: float
    consistency_loss: float


class Contribution:
    """What a shard, a rank or the whole batch brings to a step: a flat float32 tensor and its parts."""

    def __init__(self, flat: Tensor, state: TrainState) -> None:
        self.flat = flat
        sizes = self._sizes(state)
        self.gradients, self.student_statistics, self.teacher_statistics, self.scalars = torch.split(self.flat, sizes)
        self.class_loss, self.consistency_loss, self.stop = self.scalars.unbind()

    @classmethod
    def size(cls, state: TrainState) -> int:
        """How many elements the flat tensor has."""
        return sum(cls._sizes(state))

    @staticmethod
    def _sizes(state: TrainState) -> list[int]:
        statistics = state.student.running.numel()
        return [state.student.weights.numel(), statistics, statistics if state.teacher is not None else 0, SCALARS]


class TrainStep:
    """Advances a state; everything random in step s, shard k follows from (seed, s, k)."""

    def __init__(
        self,
        config: TrainingConfig,
        state: TrainState,
        dataset: Dataset,
        sampler: Sampler,
        world: World,
        precision: Precision,
    ) -> None:
        self._config, self._state, self._dataset, self.sampler = config, state, dataset, sampler
        self._world, self._precision = world, precision
        self._shards = world.shards(config.shards)
        self._exchange = open_exchange(world, Contribution.size(state))
        self._own = Contribution(self._exchange.own, state)
        self._total = Contribution(self._exchange.total, state)
        self._spares = spares_for(len(self._shards), self._own.flat)
        state.student.collect_gradients_in(self._own.gradients)
        self.data_wait_s = 0.0

    def run(self, stop: bool) -> bool:
        """Do one step. Returns whether any rank wished to stop; all ranks get the same answer."""
        rates = Rates.at(self._state.step, self._config)
        sum_shards(self._shards, lambda shard: self._contribute(shard, rates), self._own.flat, self._spares)
        self._own.stop.fill_(float(stop))
        self._exchange.sum()
        self._apply(rates)
        # Reading a value waits for the device: a world of one knows the answer without.
        return stop if self._world.size == 1 else bool(self._total.stop.item())

    def losses(self) -> Losses:
        """The losses of the last step; waits for the device."""
        class_loss, consistency_loss, _ = self._total.scalars.tolist()
        return Losses(class_loss, consistency_loss)

    def _contribute(self, shard: int, rates: Rates) -> None:
        """Leave one shard's gradient, BatchNorm statistics and losses in this rank's buffer."""
        state, batch = self._state, self._config.images_per_step
        images, classes = self._images(shard)
        self._own.flat.zero_()
        with autocast(self._precision, self._world.device):
            logits = state.student.model(self._view(images, Purpose.STUDENT_VIEW, shard)).float()
        loss = class_loss(logits[: len(classes)], classes, batch)
        self._own.class_loss.copy_(loss.detach())
        if state.teacher is not None:
            # Batch statistics for the targets, as the student has; its own running ones are for evaluation.
            with torch.no_grad(), autocast(self._precision, self._world.device):
                targets = state.teacher.model(self._view(images, Purpose.TEACHER_VIEW, shard)).float()
            consistency = consistency_loss(logits, targets, batch)
            self._own.consistency_loss.copy_(consistency.detach())
            self._own.teacher_statistics.copy_(state.teacher.batch_statistics)
            loss = loss + rates.consistency_weight * consistency
        loss.backward()  # type: ignore[no-untyped-call]
        self._own.student_statistics.copy_(state.student.batch_statistics)

    def _images(self, shard: int) -> tuple[Tensor, Tensor]:
        """A shard's images, the labelled ones first, and the classes of those."""
        start = time.perf_counter()
        train, device = self._dataset.train, self._world.device
        labelled = self.sampler.labelled(self._state.step, shard)
        unlabelled = self.sampler.unlabelled(self._state.step, shard)
        pixels = train.pixels[torch.cat([labelled, unlabelled]).to(device)]
        classes = train.classes[labelled.to(device)]
        self.data_wait_s += time.perf_counter() - start
        return normalize(pixels, self._dataset.mean, self._dataset.std), classes

    def _view(self, images: Tensor, purpose: Purpose, shard: int) -> Tensor:
        draws = generator(self._config.seed, purpose, self._state.step, shard, device=self._world.device)
        return to_channels(augment(images, self._config.augmentation, draws), INPUT_CHANNELS)

    def _apply(self, rates: Rates) -> None:
        """Update student and teacher from the sum over the whole batch."""
        state, total, shards = self._state, self._total, self._config.shards
        state.student.running.lerp_(total.student_statistics / shards, STATISTICS_MOMENTUM)
        sgd_update(state.student.weights, total.gradients, state.momentum, self._config.optimizer, rates.learning_rate)
        if state.teacher is not None:
            state.teacher.running.lerp_(total.teacher_statistics / shards, STATISTICS_MOMENTUM)
            follow(state.teacher.weights, state.student.weights, rates.ema_decay)
        state.step += 1
