"""What to do when the loss is no number: stop with advice, or go back and try with half the learning rate."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.checkpoint import directory_name, load_checkpoint
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
        self._start_anew, self._from_step = start_anew, state.step

    def handle(self, outcome: Outcome, last_good: Callable[[], LastGood] | None) -> str:
        """Go back to the last good checkpoint, which only the leading rank knows; returns what to tell about it.

        Raises Diverged when the config says to stop, or when it has gone back too often.
        """
        counters = replace(self._state.counters)
        good = last_good() if last_good else LastGood(0, None)
        checkpoint = self._world.gather(self._name(good))[0]
        what = f"the loss is not a number at step {outcome.step} ({_losses(outcome)})"
        if self._config.on_divergence == "stop":
            raise Diverged(f"{what}; {self._advice(checkpoint, may_roll_back=True)}")
        if counters.rollbacks == MOST_ROLLBACKS:
            raise Diverged(
                f"{what}, after going back {MOST_ROLLBACKS} times with half the learning rate; "
                f"{self._advice(checkpoint, may_roll_back=False)}"
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

    def _name(self, good: LastGood) -> str:
        """Where the last good checkpoint is in the run directory; empty: there is none."""
        if good.place is not None and good.place.name == "resume" and good.step <= self._from_step:
            return "resume/"
        return f"checkpoints/{directory_name(good.step)}" if good.step or good.place else ""

    def _advice(self, checkpoint: str, *, may_roll_back: bool) -> str:
        """What to do: only on_divergence may be another when a checkpoint is resumed, the rest is for a new run."""
        remedies = self._remedies()
        if not checkpoint:
            rollback = "on_divergence: rollback or " if may_roll_back else ""
            return f"there is no checkpoint yet; start it anew with {rollback}{remedies}"
        rollback = "set on_divergence: rollback, with which it can be resumed, or " if may_roll_back else ""
        return (
            f"last good checkpoint: {checkpoint}; {rollback}start a new run with {remedies}, "
            "and with its student.pt as model.weights to keep what was learnt"
        )

    def _remedies(self) -> str:
        optimizer = self._config.optimizer
        remedies = [f"lower optimizer.lr ({optimizer.lr:g})"]
        if self._config.method == "mean_teacher":
            remedies.append(f"lower consistency.weight ({self._config.consistency.weight:g})")
        if optimizer.clip_norm is None:
            remedies.append("optimizer.clip_norm: 1.0")
        if self._config.precision != "fp32":
            remedies.append("precision: fp32")
        *others, last = remedies
        return f"{', '.join(others)} or {last}" if others else last


def _losses(outcome: Outcome) -> str:
    return f"class loss {outcome.class_loss:g}, consistency loss {outcome.consistency_loss:g}"
