"""What the leading rank does between two steps: progress lines, curves, checkpoints, the result.

result.json, in the final checkpoint:
    student_accuracy, teacher_accuracy   shares of the test images that are told right; no teacher when supervised: null
    per_class      the same for each class, by who: {"student": [..], "teacher": [..]}, in the order of class_names
    confusion      [true][predicted] counts of test images, by who
    class_names    one for each class
    steps, seconds_training   over all processes that the run had
    digest         SHA-256 of all state: equal for equal runs, at any number of ranks
"""

from dataclasses import replace
from typing import Any

from trainer.checkpoint import MadeWith, Meta, Resumed
from trainer.checkpoint_writer import CheckpointWriter
from trainer.config import Plan, TrainingConfig
from trainer.data.batches import Batches
from trainer.data.dataset import Dataset
from trainer.data.pools import Pools
from trainer.divergence import LastGood
from trainer.evaluate import Evaluation
from trainer.options import RunOptions
from trainer.peak_memory import peak_of_this_rank
from trainer.progress import ProgressLog, Report, UtcNow
from trainer.speed import Clock, Speed
from trainer.state import TrainState, digest
from trainer.step import Rates, TrainStep
from trainer.tensorboard import TensorBoard
from trainer.world import World

_PATIENCE, _LONGEST_PATIENCE_S = 0.8, 10.0
"""How long writing a checkpoint may wait for time that training leaves: of the interval, and at most."""


class Recorder:
    """Reports about once a second and at every evaluation, checkpoints by the clock, and ends the run on disk."""

    def __init__(
        self,
        config: TrainingConfig,
        plan: Plan,
        options: RunOptions,
        state: TrainState,
        step: TrainStep,
        batches: Batches,
        dataset: Dataset,
        pools: Pools,
        world: World,
        maker: MadeWith,
        clock: Clock,
        now: UtcNow,
    ) -> None:
        self._config, self._plan, self._options, self._state, self._step = config, plan, options, state, step
        self._batches, self._dataset, self._pools = batches, dataset, pools
        self._world, self._maker, self._clock = world, maker, clock
        self._log = ProgressLog(options.run_dir / "progress.jsonl", now)
        curves = options.run_dir / "tensorboard"
        self._board = TensorBoard(curves, state.step, now) if options.tensorboard else None
        self._kept, self._from_step = options.run_dir / "rollback", state.step
        self._resumed: Resumed | None = None
        self._writer = CheckpointWriter(
            options.run_dir / "checkpoints",
            state,
            options.keep_local,
            options.keep_free_bytes,
            patience_s=min(_PATIENCE * options.checkpoint_every_s, _LONGEST_PATIENCE_S),
            kept=self._kept if config.on_divergence == "rollback" else None,
        )
        self._student_accuracy: float | None = None
        self._teacher_accuracy: float | None = None
        self._seconds_before = 0.0
        self._start_s = self._checkpoint_s = clock()
        self._speed = Speed(clock, config.images_per_step, state.step)

    def started(self, resumed: Resumed | None, compilation: str) -> None:
        """Say what a person should know of images, weights and compilation; go on from a checkpoint's counters."""
        origin = self._state.origin
        first = (*self._dataset.remarks, origin.remark if origin else "") if resumed is None else ()
        lack = self._writer.lack_of_space()
        for remark in (*first, compilation, f"no checkpoint could be written now: {lack}" if lack else ""):
            if remark:
                self._log.note(self._state.step, remark)
        if resumed is None:
            return
        self._log.say(self._state.step, f"going on from {resumed.place}")
        self._resumed, meta = resumed, resumed.meta
        self._seconds_before = meta.seconds_training
        self._student_accuracy, self._teacher_accuracy = meta.student_accuracy, meta.teacher_accuracy
        was, now = meta.made_with.model_dump(), self._maker.model_dump()
        changes = [f"{name} {was[name]} -> {now[name]}" for name in was if was[name] != now[name]]
        if changes:
            self._log.note(
                self._state.step,
                f"resumed on other ground, later bits may differ from an undisturbed run: {', '.join(changes)}",
            )

    def last_good(self) -> LastGood:
        """The newest checkpoint on this machine: one of this run, or the one that it was resumed from."""
        self._writer.wait()
        places = [self._kept] if self._writer.newest_step is not None else []
        places += [self._resumed.place] if self._resumed else []
        return LastGood(
            self._writer.newest_step if self._writer.newest_step is not None else self._from_step,
            next((place for place in places if place.exists()), None),
        )

    def rolled_back(self, told: str) -> None:
        """Tell that the run goes on from an earlier step."""
        if self._board:
            self._board.restart(self._state.step)
        self._log.note(self._state.step, told)
        self._speed.restart(self._state.step, self._batches.wait_s)
        self._student_accuracy = self._teacher_accuracy = None  # perhaps of weights that were no numbers

    def evaluated(self, evaluation: Evaluation) -> None:
        """Report new accuracies."""
        self._know(evaluation)
        self._report()

    def after_step(self) -> None:
        """Report and checkpoint if it is time, and tell how the last checkpoint went."""
        self._tell_outcome()
        self._tell_of_curves()
        if self._state.step == self._plan.total_steps:  # `close` follows at once
            return
        if self._speed.is_due(self._state.step):
            self._report()
        now_s = self._clock()
        is_due = now_s - self._checkpoint_s >= self._options.checkpoint_every_s
        if is_due and not self._writer.busy:
            self._checkpoint_s = now_s
            self._writer.start(self._meta())

    def close(self, evaluation: Evaluation | None) -> None:
        """Write the checkpoint that the run ends with: with the result if it is finished, else to be resumed from."""
        if evaluation is not None:
            self._know(evaluation)
        if self._speed.reported_step < self._state.step or evaluation is not None:
            self._report()
        if evaluation is not None or not self._writer.has_written(self._state.counters):
            self._write_last(evaluation)
        self._say_the_end(finished=evaluation is not None)
        if self._board:
            self._board.close()
        self._tell_of_curves()
        self._log.close()

    def _say_the_end(self, *, finished: bool) -> None:
        place = self._writer.newest
        if finished:
            self._log.say(self._state.step, f"finished: {place}")
        else:
            self._log.say(self._state.step, f"stopped as asked; the same command goes on from {place}")

    def _write_last(self, evaluation: Evaluation | None) -> None:
        meta, snapshot = self._meta(), self._writer.copy()
        self._tell_outcome()
        documents = {}
        if evaluation is not None:
            found = digest(snapshot.files(), snapshot.counters)
            documents = {"result.json": self._result(evaluation, meta, found), "labelled.json": self._labelled()}
        self._writer.write_last(meta, snapshot, documents)

    def _know(self, evaluation: Evaluation) -> None:
        self._student_accuracy = evaluation.student.accuracy
        self._teacher_accuracy = evaluation.teacher.accuracy if evaluation.teacher else None

    def _tell_outcome(self) -> None:
        outcome = self._writer.poll()
        if outcome is not None and outcome.failure:
            self._log.note(outcome.step, f"checkpoint skipped: {outcome.failure}; trying again at the next interval")

    def _tell_of_curves(self) -> None:
        failure = self._board.failure() if self._board else None
        if failure:
            self._log.note(self._state.step, failure)

    def _report(self) -> None:
        losses = self._step.last_outcome()
        if not losses.is_finite:  # a GPU's, which the loop is told of after the next step
            return
        counters = self._state.counters
        step, update = counters.step, max(0, counters.updates - 1)
        rates = Rates.at(update, self._plan.total_steps, self._config, counters.lr_factor)
        rate = self._speed.take(step, self._batches.wait_s)
        mean_teacher, fp16 = self._state.teacher is not None, self._maker.precision == "fp16"
        weight = rates.consistency_weight if mean_teacher else 0.0
        distance = losses.head_distance if self._config.consistency.second_head and mean_teacher else None
        loss = losses.class_loss + weight * losses.consistency_loss
        loss += self._config.consistency.head_distance * losses.head_distance  # 0 where there is one head
        has_stepped = step != self._from_step
        report = Report(
            step=step,
            total_steps=self._plan.total_steps,
            epoch=self._epoch(),
            samples=step * self._config.images_per_step,
            samples_per_second=rate.samples_per_second if has_stepped else None,
            loss=loss if has_stepped else None,
            class_loss=losses.class_loss if has_stepped else None,
            consistency_loss=losses.consistency_loss if has_stepped else None,
            head_distance=distance if has_stepped else None,
            consistency_weight=weight,
            learning_rate=rates.learning_rate,
            ema_decay=rates.ema_decay,
            student_accuracy=self._student_accuracy,
            teacher_accuracy=self._teacher_accuracy,
            data_wait=rate.data_wait,
            memory_bytes=peak_of_this_rank(self._world.device),
            checkpoint_stall_s=self._writer.stall_s,
            world_size=self._world.size,
            loss_scale=counters.loss_scale if fp16 else None,
            skipped_updates=step - counters.updates if fp16 else None,
        )
        self._log.report(report)
        if self._board:
            self._board.report(report)

    def _meta(self) -> Meta:
        step = self._state.step
        return Meta(
            step=step,
            counters=replace(self._state.counters),
            dataset=self._dataset.fingerprint,
            total_steps=self._plan.total_steps,
            samples=step * self._config.images_per_step,
            epoch=self._epoch(),
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
            "class_names": list(self._dataset.class_names),
            "steps": meta.step,
            "seconds_training": meta.seconds_training,
            "digest": state_digest,
        }

    def _epoch(self) -> float:
        """Passes over the unlabelled pool so far; over the labelled one when supervised."""
        config, unlabelled = self._config, self._config.images_per_step - self._config.labelled_batch
        if unlabelled:
            return self._state.step * unlabelled / len(self._pools.unlabelled)
        return self._state.step * config.labelled_batch / len(self._pools.labelled)

    def _labelled(self) -> dict[str, Any]:
        """Which images kept their label."""
        indices = self._pools.labelled.tolist()
        return {
            "dataset": self._config.dataset,
            "seed": self._config.seed,
            "indices": indices,
            "classes": self._dataset.train_classes[self._pools.labelled].tolist(),
            "names": [self._dataset.names[index] for index in indices] if self._dataset.names else None,
        }
