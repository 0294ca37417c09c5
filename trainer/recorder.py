"""What the leading rank does between two steps: progress lines, checkpoints, the result."""

import math
import resource
import sys
from collections.abc import Callable
from typing import Any

import torch

from trainer.checkpoint import MadeWith, Meta
from trainer.checkpoint_writer import CheckpointWriter
from trainer.config import TrainingConfig
from trainer.errors import TrainerError
from trainer.evaluate import Evaluation
from trainer.options import RunOptions
from trainer.progress import ProgressLog, Report, UtcNow
from trainer.state import TrainState, digest
from trainer.step import Losses, Rates, TrainStep
from trainer.world import World

REPORT_EVERY_S = 1.0

Clock = Callable[[], float]


class Recorder:
    """Reports about once a second and at every evaluation, checkpoints by the clock, and ends the run on disk."""

    def __init__(
        self,
        config: TrainingConfig,
        options: RunOptions,
        state: TrainState,
        step: TrainStep,
        world: World,
        maker: MadeWith,
        clock: Clock,
        now: UtcNow,
    ) -> None:
        self._config, self._options, self._state, self._step = config, options, state, step
        self._world, self._maker, self._clock = world, maker, clock
        self._log = ProgressLog(options.run_dir / "progress.jsonl", now)
        self._writer = CheckpointWriter(
            options.run_dir / "checkpoints", state, options.keep_local, options.keep_free_bytes
        )
        self._student_accuracy: float | None = None
        self._teacher_accuracy: float | None = None
        self._seconds_before = 0.0
        self._start_s = self._checkpoint_s = clock()
        self._reported_s, self._reported_step, self._reported_wait_s = self._start_s, state.step, 0.0

    def resumed(self, meta: Meta) -> None:
        """Go on from a checkpoint's counters; say so if its later bits may come to differ."""
        self._seconds_before = meta.seconds_training
        self._student_accuracy, self._teacher_accuracy = meta.student_accuracy, meta.teacher_accuracy
        was, now = meta.made_with.model_dump(), self._maker.model_dump()
        changes = [f"{name} {was[name]} -> {now[name]}" for name in was if was[name] != now[name]]
        if changes:
            self._log.note(
                self._state.step,
                f"resumed on other ground, later bits may differ from an undisturbed run: {', '.join(changes)}",
            )

    def evaluated(self, evaluation: Evaluation) -> None:
        """Report new accuracies."""
        self._know(evaluation)
        self._report()

    def after_step(self) -> None:
        """Report and checkpoint if it is time, and tell how the last checkpoint went."""
        self._tell_outcome()
        if self._state.step == self._config.total_steps:  # `close` follows at once
            return
        now_s = self._clock()
        first = self._reported_s == self._start_s
        if self._reported_step < self._state.step and (first or now_s - self._reported_s >= REPORT_EVERY_S):
            self._report()
        is_due = now_s - self._checkpoint_s >= self._options.checkpoint_every_s
        if is_due and not self._writer.busy:
            self._require_finite()
            self._checkpoint_s = now_s
            self._writer.start(self._meta())

    def close(self, evaluation: Evaluation | None) -> None:
        """Write the checkpoint that the run ends with: with the result if it is finished, else to be resumed from."""
        if evaluation is not None:
            self._know(evaluation)
        if self._reported_step < self._state.step or evaluation is not None:
            self._report()
        meta, snapshot = self._meta(), self._writer.copy()
        self._tell_outcome()
        result = None
        if evaluation is not None:
            result = self._result(evaluation, meta, digest(snapshot.files()))
        self._writer.write_last(meta, snapshot, result)
        if evaluation is None:
            self._log.say(self._state.step, "stopped as asked, with a checkpoint to resume from")
        self._log.close()

    def _know(self, evaluation: Evaluation) -> None:
        self._student_accuracy = evaluation.student.accuracy
        self._teacher_accuracy = evaluation.teacher.accuracy if evaluation.teacher else None

    def _tell_outcome(self) -> None:
        outcome = self._writer.poll()
        if outcome is not None and outcome.failure:
            self._log.note(outcome.step, f"checkpoint skipped: {outcome.failure}; trying again at the next interval")

    def _require_finite(self) -> Losses:
        losses = self._step.losses()
        if not math.isfinite(losses.class_loss + losses.consistency_loss):
            raise TrainerError(
                f"the loss is not a number at step {self._state.step}: lower optimizer.lr or consistency.weight, "
                "or set precision: fp32"
            )
        return losses

    def _report(self) -> None:
        losses, now_s = self._require_finite(), self._clock()
        step, wait_s = self._state.step, self._step.data_wait_s
        rates = Rates.at(max(0, step - 1), self._config)
        elapsed_s = max(now_s - self._reported_s, 1e-9)
        images = (step - self._reported_step) * self._config.images_per_step
        weight = rates.consistency_weight if self._state.teacher is not None else 0.0
        self._log.report(
            Report(
                step=step,
                total_steps=self._config.total_steps,
                epoch=self._step.sampler.epoch(step),
                samples=step * self._config.images_per_step,
                samples_per_second=images / elapsed_s,
                loss=losses.class_loss + weight * losses.consistency_loss,
                class_loss=losses.class_loss,
                consistency_loss=losses.consistency_loss,
                consistency_weight=weight,
                learning_rate=rates.learning_rate,
                ema_decay=rates.ema_decay,
                student_accuracy=self._student_accuracy,
                teacher_accuracy=self._teacher_accuracy,
                data_wait=min(1.0, (wait_s - self._reported_wait_s) / elapsed_s),
                memory_bytes=self._memory_bytes(),
                checkpoint_stall_s=self._writer.stall_s,
                world_size=self._world.size,
            )
        )
        self._reported_s, self._reported_step, self._reported_wait_s = now_s, step, wait_s

    def _meta(self) -> Meta:
        step = self._state.step
        return Meta(
            step=step,
            total_steps=self._config.total_steps,
            samples=step * self._config.images_per_step,
            epoch=self._step.sampler.epoch(step),
            seconds_training=self._seconds_before + self._clock() - self._start_s,
            student_accuracy=self._student_accuracy,
            teacher_accuracy=self._teacher_accuracy,
            made_with=self._maker,
            world_size=self._world.size,
            config=self._config.model_dump(mode="json"),
        )

    def _result(self, evaluation: Evaluation, meta: Meta, state_digest: str) -> dict[str, Any]:
        scores = {"student": evaluation.student} | ({"teacher": evaluation.teacher} if evaluation.teacher else {})
        return {
            "student_accuracy": self._student_accuracy,
            "teacher_accuracy": self._teacher_accuracy,
            "per_class": {who: score.per_class for who, score in scores.items()},
            "confusion": {who: score.confusion for who, score in scores.items()},
            "steps": meta.step,
            "seconds_training": meta.seconds_training,
            "digest": state_digest,
        }

    def _memory_bytes(self) -> int:
        """Peak memory: of the GPU, or of this process where there is none."""
        if self._world.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._world.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
