"""TensorBoard files: the reports as curves over steps, in the run directory's `tensorboard/`.

Written from a thread of its own, which also imports tensorboardX (0.3 s, as it brings its clients of object stores):
neither that nor a slow disk is in the way of a step. tensorboardX's own SummaryWriter is not used: on a full disk its
thread ends and its queue fills up, and then the training loop would wait for it for ever.
"""

import os
import queue
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.priority import give_way
from trainer.progress import Report, UtcNow

TAGS = {
    "loss": "loss/total",
    "class_loss": "loss/class",
    "consistency_loss": "loss/consistency",
    "head_distance": "loss/head_distance",
    "student_accuracy": "accuracy/student",
    "teacher_accuracy": "accuracy/teacher",
    "learning_rate": "rates/learning_rate",
    "consistency_weight": "rates/consistency_weight",
    "ema_decay": "rates/ema_decay",
    "loss_scale": "precision/loss_scale",
    "skipped_updates": "precision/skipped_updates",
    "samples_per_second": "speed/samples_per_second",
    "data_wait": "speed/data_wait",
    "checkpoint_stall_s": "speed/checkpoint_stall_s",
    "epoch": "run/epoch",
    "memory_bytes": "run/memory_bytes",
    "world_size": "run/world_size",
}
"""The curve of each field of a report; one that has no value has no point."""

LONGEST_CLOSE_S = 5.0
"""How long the end of a run waits for a disk that does not answer."""


@dataclass(frozen=True)
class _Restart:
    """From this step on, curves are drawn anew."""

    wall_time_s: float
    step: int


@dataclass(frozen=True)
class _Points:
    """One point of each curve."""

    wall_time_s: float
    step: int
    values: Mapping[str, float]


class TensorBoard:
    """Writes what it is given beside the loop; files that cannot be written cost the curves, not the run."""

    def __init__(self, directory: Path, step: int, now: UtcNow) -> None:
        self._directory, self._first_step, self._now = directory, step, now
        self._queue: queue.SimpleQueue[_Restart | _Points | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failure: str | None = None
        self._is_told = False
        self.restart(step)

    def report(self, report: Report) -> None:
        """Add a point to each curve; the first has the writing begin, so that the run's first step is not kept."""
        given = asdict(report)
        values = {tag: float(given[field]) for field, tag in TAGS.items() if given[field] is not None}
        self._add(_Points(self._now().timestamp(), report.step, values))
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_beside, name="tensorboard", daemon=True)
            self._thread.start()

    def restart(self, step: int) -> None:
        """Go on after this step: what an earlier process, or this one before a roll-back, has of later ones is void."""
        self._add(_Restart(self._now().timestamp(), step + 1))

    def failure(self) -> str | None:
        """Why there are no more curves, told once."""
        if self._failure is None or self._is_told:
            return None
        self._is_told = True
        return self._failure

    def close(self) -> None:
        """Write what is left."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(LONGEST_CLOSE_S)

    def _add(self, item: _Restart | _Points) -> None:
        if self._failure is None:
            self._queue.put(item)

    def _write_beside(self) -> None:
        give_way()
        try:
            self._write()
        except OSError as error:
            self._failure = f"no more TensorBoard curves: {self._directory} cannot be written: {error.strerror}"
        except (ImportError, TypeError, RuntimeError) as error:  # the latter two: a protobuf that does not go with it
            self._failure = f"no TensorBoard curves: tensorboardX cannot be imported: {error}"

    def _write(self) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        def event(item: _Restart | _Points) -> Any:
            if isinstance(item, _Restart):
                log = SessionLog(status=SessionLog.START)
                return Event(wall_time=item.wall_time_s, step=item.step, session_log=log)
            points = [Summary.Value(tag=tag, simple_value=value) for tag, value in item.values.items()]
            return Event(wall_time=item.wall_time_s, step=item.step, summary=Summary(value=points))

        self._directory.mkdir(parents=True, exist_ok=True)
        # The name begins with the time in seconds: the rest keeps a process from writing into its predecessor's file.
        writer = EventsWriter(str(self._directory / "events"), f".{self._first_step:012d}.{os.getpid()}")
        while (item := self._queue.get()) is not None:
            writer.write_event(event(item))
            if self._queue.empty():
                writer.flush()
        writer.close()
