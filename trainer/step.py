"""One training step: every shard's gradient, their sum over all ranks, the update of student and teacher."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trainer.augment import add_noise, augment, normalize, to_channels, to_unit_range
from trainer.config import Plan, TrainingConfig
from trainer.data.batches import Batch, Batches
from trainer.data.dataset import Dataset
from trainer.exchange import open_exchange
from trainer.keys import Purpose, generator
from trainer.mean_teacher import CONSISTENCY_LOSSES, class_loss, consistency_weight, ema_decay, follow, head_distance
from trainer.model import INPUT_CHANNELS
from trainer.network import Heads
from trainer.optim import learning_rate
from trainer.precision import SMALLEST_LOSS_SCALE, Precision, autocast, next_loss_scale
from trainer.shards import spares_for, sum_shards
from trainer.state import TrainState
from trainer.world import World

STATISTICS_MOMENTUM = 0.1
"""How fast running BatchNorm statistics follow those of the batch: torch's default."""

SCALARS = 4
PART = 2**18
"""So many weights are updated at a time on a CPU: few enough for its caches, enough for its vectors."""


@dataclass(frozen=True)
class Rates:
    """What a step is computed with; functions of the updates made so far, and of roll-backs."""

    learning_rate: float
    consistency_weight: float
    ema_decay: float

    @classmethod
    def at(cls, update: int, total_steps: int, config: TrainingConfig, lr_factor: float = 1.0) -> "Rates":
        """The rates of an update counted from 0."""
        consistency, ramp_steps = config.consistency, config.consistency.ramp_up * total_steps
        return cls(
            lr_factor * learning_rate(update, total_steps, config.optimizer.lr, config.schedule),
            consistency_weight(update, ramp_steps, consistency.weight),
            ema_decay(update + 1, config.ema, ramped_up=update >= ramp_steps),
        )


@dataclass(frozen=True)
class Outcome:
    """What is known of a step: its losses over the whole batch, before their weights, and what all ranks agree on.

    step: counted from 1.
    """

    step: int
    class_loss: float
    consistency_loss: float
    head_distance: float
    stop: bool

    @property
    def is_finite(self) -> bool:
        """Whether the losses are numbers."""
        return math.isfinite(self.class_loss + self.consistency_loss + self.head_distance)


class Contribution:
    """What a shard, a rank or the whole batch brings to a step: a flat float32 tensor and its parts."""

    def __init__(self, flat: Tensor, state: TrainState) -> None:
        self.flat = flat
        sizes = self._sizes(state)
        self.gradients, self.student_statistics, self.teacher_statistics, self.scalars = torch.split(self.flat, sizes)
        self.class_loss, self.consistency_loss, self.head_distance, self.stop = self.scalars.unbind()

    @classmethod
    def size(cls, state: TrainState) -> int:
        """How many elements the flat tensor has."""
        return sum(cls._sizes(state))

    @staticmethod
    def _sizes(state: TrainState) -> list[int]:
        statistics = state.student.running.numel()
        return [state.student.weights.numel(), statistics, statistics if state.teacher is not None else 0, SCALARS]


class TrainStep:
    """Advances a state; everything random in step s, shard k follows from (seed, s, k).

    A pass is what goes through the networks at once: a shard; without `exact`, all shards of this rank.
    """

    def __init__(
        self,
        config: TrainingConfig,
        plan: Plan,
        state: TrainState,
        dataset: Dataset,
        batches: Batches,
        world: World,
        precision: Precision,
    ) -> None:
        self._config, self._plan, self._state, self._batches = config, plan, state, batches
        self._world, self._precision = world, precision
        self._mean, self._std = dataset.mean.to(world.device), dataset.std.to(world.device)
        self._mirrors = dataset.facts.mirrors
        shards = world.shards(config.shards)
        self._passes: list[Sequence[int]] = [[shard] for shard in shards] if config.exact else [shards]
        self._pass_count = config.shards if config.exact else world.size
        self._parts = _parts(state, world.device)
        # Where each weight is updated by itself, ranks that have the weights in common update a share of them each.
        shares = state.updater.is_separable and precision != "fp16"
        self._exchange = open_exchange(world, Contribution.size(state), state.size_of_weights if shares else 0)
        if self._exchange.common is not None:
            state.keep_weights_in(self._exchange.common, fill=world.is_leader)
            world.wait_for_all()
        self._own = Contribution(self._exchange.own, state)
        self._total = Contribution(self._exchange.total, state)
        self._spares = spares_for(len(self._passes), self._own.flat)
        state.student.collect_gradients_in(self._own.gradients)
        self._student: Heads = state.student.heads
        self._teacher: Heads | None = state.teacher.heads if state.teacher is not None else None
        self._later = _Later() if world.device.type == "cuda" else None

    def run(self, stop: bool) -> Outcome | None:
        """Do one step. Returns what is known by now; all ranks get the same.

        On a CPU, and at the run's last step, that is this step's outcome. On a GPU it is that of the step before, none
        at first: reading a value at once would make the device wait for the host at every step.
        """
        counters = self._state.counters
        rates = Rates.at(counters.updates, self._plan.total_steps, self._config, counters.lr_factor)
        device = self._world.device

        def contribute(number: int) -> None:
            with torch.autocast(device.type, enabled=False):
                self._contribute(self._passes[number], rates)

        # The outer context is there for its cache: the student's weights in half precision, made once for all passes.
        with autocast(self._precision, device):
            sum_shards(range(len(self._passes)), contribute, self._own.flat, self._spares)
        self._own.stop.fill_(float(stop))
        self._apply(rates)
        counters.step += 1
        if self._later is None or counters.step == self._plan.total_steps:
            return self.last_outcome()
        return self._later.swap(counters.step, self._total.scalars)

    def forget(self) -> None:
        """Tell nothing more of steps that a roll-back has undone."""
        if self._later:
            self._later = _Later()

    def last_outcome(self) -> Outcome:
        """The outcome of the last step; waits for the device."""
        return _outcome(self._state.step, self._total.scalars)

    def _contribute(self, shards: Sequence[int], rates: Rates) -> None:
        """Add one pass's gradient, BatchNorm statistics and losses to this rank's buffer."""
        state, own, size = self._state, self._own, self._config.images_per_step
        batch = self._take(shards)
        labelled = len(batch.classes)
        with autocast(self._precision, self._world.device):
            logits, pulled = self._student(self._view(batch, Purpose.STUDENT_VIEW, shards))
        logits, pulled = logits.float(), pulled.float()
        loss = class_loss(logits[:labelled], batch.classes, size)
        own.class_loss.add_(loss.detach())
        if self._teacher is not None and state.teacher is not None:
            setting = self._config.consistency
            # Batch statistics for the targets, as the student has; its own running ones are for evaluation.
            with torch.no_grad(), autocast(self._precision, self._world.device):
                targets, _ = self._teacher(self._view(batch, Purpose.TEACHER_VIEW, shards))
            first = 0 if setting.on_labelled else labelled
            consistency = CONSISTENCY_LOSSES[setting.loss](pulled[first:], targets[first:].float(), size)
            own.consistency_loss.add_(consistency.detach())
            own.teacher_statistics.add_(state.teacher.batch_statistics)
            loss = loss + rates.consistency_weight * consistency
            if setting.second_head:
                distance = head_distance(logits, pulled, size)
                own.head_distance.add_(distance.detach())
                loss = loss + setting.head_distance * distance
        if self._precision == "fp16":
            loss = loss * state.counters.loss_scale
        loss.backward()  # type: ignore[no-untyped-call]
        own.student_statistics.add_(state.student.batch_statistics)

    def _take(self, shards: Sequence[int]) -> Batch:
        """The images of a pass, the labelled ones of all its shards first."""
        parts = [self._batches.take(self._state.step, shard) for shard in shards]
        if len(parts) == 1:
            return parts[0]
        labelled = [part.pixels[: len(part.classes)] for part in parts]
        others = [part.pixels[len(part.classes) :] for part in parts]
        return Batch(torch.cat([*labelled, *others]), torch.cat([part.classes for part in parts]))

    def _view(self, batch: Batch, purpose: Purpose, shards: Sequence[int]) -> Tensor:
        """What student or teacher sees of a pass's images."""
        setting, draws = self._config.augmentation, self._draws(purpose, shards)
        images = augment(to_unit_range(batch.pixels), setting, draws, mirrors=self._mirrors, fill=self._mean)
        noise = setting.noise
        if purpose is Purpose.TEACHER_VIEW and setting.teacher_noise is not None:
            noise = setting.teacher_noise
        images = add_noise(normalize(images, self._mean, self._std), noise, draws)
        return self._state.student.arranged(to_channels(images, INPUT_CHANNELS))

    def _draws(self, purpose: Purpose, shards: Sequence[int]) -> torch.Generator:
        """One key a pass: its first shard. With `exact` a pass is one shard, whatever the number of ranks."""
        return generator(self._config.seed, purpose, self._state.step, shards[0], device=self._world.device)

    def _apply(self, rates: Rates) -> None:
        """Sum up, and update student and teacher from the sum over the whole batch."""
        state, total = self._state, self._total
        update = partial(self._update, rates)
        if self._precision == "fp16":  # whether there is an update at all, only the whole sum tells
            self._exchange.sum()
            if not self._unscale():
                return
            for part in self._parts:
                update(part)
        else:
            self._exchange.sum_in_parts(self._parts, update)
        state.counters.updates += 1
        state.student.running.lerp_(total.student_statistics / self._pass_count, STATISTICS_MOMENTUM)
        if state.teacher is None:
            return
        if self._config.ema.batch_norm == "averaged":
            follow(state.teacher.running, state.student.running, rates.ema_decay)
        else:
            state.teacher.running.lerp_(total.teacher_statistics / self._pass_count, STATISTICS_MOMENTUM)

    def _update(self, rates: Rates, part: slice) -> None:
        """Update a part of the student's weights, and of the teacher's."""
        state = self._state
        weights, gradients = state.student.weights, self._total.gradients
        state.updater.update(weights, gradients, rates.learning_rate, state.counters.updates + 1, part)
        if state.teacher is not None:
            follow(state.teacher.weights[part], weights[part], rates.ema_decay)

    def _unscale(self) -> bool:
        """Undo the loss scale; False when fp16 could not hold the gradients and the step is to be skipped."""
        counters, gradients = self._state.counters, self._total.gradients
        gradients.div_(counters.loss_scale)
        finite = bool(torch.isfinite(gradients).all())
        counters.loss_scale, counters.good_steps = next_loss_scale(
            counters.loss_scale, counters.good_steps, finite=finite
        )
        if counters.loss_scale < SMALLEST_LOSS_SCALE:
            self._total.class_loss.fill_(math.nan)  # no matter of number formats any more: for all ranks a divergence
        return finite


def _parts(state: TrainState, device: torch.device) -> list[slice]:
    """The parts of the weights that are updated one after the other: the same ones, whatever the number of ranks."""
    whole = state.student.weights.numel()
    each = PART if device.type == "cpu" and state.updater.is_separable else whole
    return [slice(start, min(start + each, whole)) for start in range(0, whole, each)]


def _outcome(step: int, scalars: Tensor) -> Outcome:
    class_loss, consistency_loss, distance, stop = scalars.tolist()
    return Outcome(step, class_loss, consistency_loss, distance, bool(stop))


class _Later:
    """Hands out the values of the call before, copied from the device meanwhile."""

    def __init__(self) -> None:
        self._pair = [torch.zeros(SCALARS, pin_memory=True) for _ in range(2)]
        self._copied: torch.cuda.Event | None = None
        self._step = 0

    def swap(self, step: int, values: Tensor) -> Outcome | None:
        before = None
        if self._copied is not None:
            self._copied.synchronize()
            before = _outcome(self._step, self._pair[0])
        self._step = step
        self._pair.reverse()
        self._pair[0].copy_(values, non_blocking=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied.record()
        return before
