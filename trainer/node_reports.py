"""What ranks record that do not lead: nothing, but for the first of each other machine, which says how far it is.

An agent judges its own machine by these lines: from the first step on its GPUs' utilisation counts, and while there
are new ones its ranks do not stand still. Losses, accuracies and checkpoints are the leading rank's alone.
"""

from collections.abc import Callable

from trainer.checkpoint import Resumed
from trainer.config import Plan, TrainingConfig
from trainer.data.batches import Batches
from trainer.divergence import LastGood
from trainer.evaluate import Evaluation
from trainer.options import RunOptions
from trainer.peak_memory import peak_of_this_rank
from trainer.progress import NodeReport, ProgressLog, UtcNow
from trainer.speed import Clock, Speed
from trainer.state import TrainState
from trainer.world import World


class Silent:
    """Of a rank that only computes."""

    last_good: Callable[[], LastGood] | None = None
    """Checkpoints are the leading rank's."""

    def started(self, _resumed: Resumed | None, _compilation: str) -> None:
        """The run begins."""

    def rolled_back(self, _told: str) -> None:
        """The run goes on from an earlier step."""

    def evaluated(self, _evaluation: Evaluation) -> None:
        """There are new accuracies."""

    def after_step(self) -> None:
        """A step is done."""

    def close(self, _evaluation: Evaluation | None) -> None:
        """The run has ended."""


class NodeReports(Silent):
    """Of the first rank of a machine: about once a second, and at the end."""

    def __init__(
        self,
        config: TrainingConfig,
        plan: Plan,
        options: RunOptions,
        state: TrainState,
        batches: Batches,
        world: World,
        clock: Clock,
        now: UtcNow,
    ) -> None:
        self._config, self._plan, self._state, self._batches, self._world = config, plan, state, batches, world
        self._log = ProgressLog(options.run_dir / "progress.jsonl", now)
        self._speed = Speed(clock, config.images_per_step, state.step)

    def after_step(self) -> None:
        if self._speed.is_due(self._state.step):
            self._report()

    def rolled_back(self, _told: str) -> None:
        self._speed.restart(self._state.step, self._batches.wait_s)

    def close(self, _evaluation: Evaluation | None) -> None:
        if self._speed.reported_step < self._state.step:
            self._report()
        self._log.close()

    def _report(self) -> None:
        step = self._state.step
        rate = self._speed.take(step, self._batches.wait_s)
        self._log.node_report(
            NodeReport(
                step=step,
                total_steps=self._plan.total_steps,
                samples=step * self._config.images_per_step,
                samples_per_second=rate.samples_per_second,
                data_wait=rate.data_wait,
                memory_bytes=peak_of_this_rank(self._world.device),
                world_size=self._world.size,
            )
        )
