"""What to do when the loss is no number: stop with advice, or go back and try with half the learning rate."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.checkpoint import load_checkpoint
from trainer.config import TrainingConfig
from trainer.data.dataset import Dataset
from trainer.errors import Diverged
from trainer.state import Counters, TrainState
from trainer.step import Outcome
from trainer.world import World

MOST_ROLLBACKS = 5
"""Half the learning rate five times is a thirtieth of it: what diverges even so needs a person."""


@dataclass(frozen=True)
class LastGood:
    """What there is to go back to: the step, and the checkpoint unless that is the very start."""

    step: int
    place: Path | None


class Divergence:
    """Judges the outcome of each step; all ranks have the same and come to the same."""

    def __init__(
        self,
        config: TrainingConfig,
        dataset: Dataset,
        state: TrainState,
        world: World,
        start_anew: Callable[[], TrainState],
    ) -> None:
        self._config, self._dataset, self._state, self._world = config, dataset, state, world
        self._start_anew = start_anew

    def handle(self, outcome: Outcome, last_good: Callable[[], LastGood] | None) -> str:
        """Go back to the last good checkpoint, which only the leading rank knows; returns what to tell about it.

        Raises Diverged when the config says to stop, or when it has gone back too often.
        """
        counters = replace(self._state.counters)
        good = last_good() if last_good else LastGood(0, None)
        good_step = self._world.gather(good.step)[0]
        what = f"the loss is not a number at step {outcome.step} ({_losses(outcome)})"
        if self._config.on_divergence == "stop":
            raise Diverged(f"{what}; last good checkpoint: of step {good_step}; {self._remedies()}")
        if counters.rollbacks == MOST_ROLLBACKS:
            raise Diverged(
                f"{what}, after going back {MOST_ROLLBACKS} times with half the learning rate; "
                f"last good checkpoint: of step {good_step}; {self._remedies(rollback=False)}"
            )
        self._go_back(good.place, counters)
        lr = self._config.optimizer.lr * self._state.counters.lr_factor
        return (
            f"{what}; back to step {self._state.step} with half the learning rate, now at most {lr:g} "
            f"({self._state.counters.rollbacks} of {MOST_ROLLBACKS})"
        )

    def _go_back(self, place: Path | None, before: Counters) -> None:
        """Set the state of all ranks from the leading rank's checkpoint, or as it was at the very start."""
        state, world = self._state, self._world
        if world.is_leader:  # the others may have the weights in common with it
            self._set(place)
        world.wait_for_all()
        for tensor in state.tensors().values():
            world.take_from_leader(tensor)
        for network in (state.student, state.teacher):
            if network is not None:
                network.batch_statistics.zero_()  # a NaN would stay: the next ones are 0 * these + 1 * the batch's
        found = world.gather(state.counters)[0]
        state.counters = replace(found, lr_factor=before.lr_factor / 2, rollbacks=before.rollbacks + 1)

    def _set(self, place: Path | None) -> None:
        state = self._state
        if place is not None:
            load_checkpoint(place, self._config, self._dataset, state)
            return
        fresh = self._start_anew().tensors()
        for name, tensor in state.tensors().items():
            tensor.copy_(fresh[name])
        state.counters = Counters()

    def _remedies(self, *, rollback: bool = True) -> str:
        optimizer = self._config.optimizer
        remedies = [f"lower optimizer.lr ({optimizer.lr:g})"]
        if self._config.method == "mean_teacher":
            remedies.append(f"lower consistency.weight ({self._config.consistency.weight:g})")
        if optimizer.clip_norm is None:
            remedies.append("set optimizer.clip_norm: 1.0")
        if self._config.precision != "fp32":
            remedies.append("set precision: fp32")
        if rollback:
            remedies.append("or set on_divergence: rollback")
        return ", ".join(remedies)


def _losses(outcome: Outcome) -> str:
    return f"class loss {outcome.class_loss:g}, consistency loss {outcome.consistency_loss:g}"
