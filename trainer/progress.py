"""progress.jsonl: what a run reports, one JSON object a line, and the same in short for whoever looks on."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

from trainer.errors import Unavailable
from trainer.standard_error import tell

UtcNow = Callable[[], datetime]


@dataclass(frozen=True)
class Report:
    """One line of progress.

    samples_per_second and data_wait are over the time since the last line; data_wait is the share of it, 0..1, in
    which the loop waited for images. loss = class_loss + consistency_weight * consistency_loss, and head_distance by
    its weight where there are two heads; else that is None. Losses and speed are None of a process that has made no
    step. Accuracies are the latest known, memory_bytes is the leading rank's peak. checkpoint_stall_s is how long the
    loop has stood still for checkpoints since this process started. loss_scale and skipped_updates are fp16's, None in
    other formats: what the loss is multiplied by, and how many steps of the run moved nothing because their gradients
    overflowed.
    """

    step: int
    total_steps: int
    epoch: float
    samples: int
    samples_per_second: float | None
    loss: float | None
    class_loss: float | None
    consistency_loss: float | None
    head_distance: float | None
    consistency_weight: float
    learning_rate: float
    ema_decay: float
    student_accuracy: float | None
    teacher_accuracy: float | None
    data_wait: float
    memory_bytes: int
    checkpoint_stall_s: float
    world_size: int
    loss_scale: float | None
    skipped_updates: int | None


@dataclass(frozen=True)
class NodeReport:
    """One line of progress of another machine than the leading rank's (`node_reports`): of its first rank."""

    step: int
    total_steps: int
    samples: int
    samples_per_second: float
    data_wait: float
    memory_bytes: int
    world_size: int


class ProgressLog:
    """Appends to progress.jsonl; a disk that is full costs lines, not the run."""

    def __init__(self, path: Path, now: UtcNow) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - open as long as the run
            self._torn = _ends_within_a_line(self._file)
        except OSError as error:
            raise Unavailable(f"{path}: cannot be written: {error.strerror}") from None
        self._now = now

    def report(self, report: Report) -> None:
        """Append a report."""
        self._append(asdict(report))
        shown = [f"step {report.step}/{report.total_steps}"]
        if report.loss is not None:
            shown.append(f"loss {report.loss:.4f}")
        for who, accuracy in (("student", report.student_accuracy), ("teacher", report.teacher_accuracy)):
            if accuracy is not None:
                shown.append(f"{who} {100 * accuracy:.1f} %")
        if report.samples_per_second is not None:
            shown.append(f"{report.samples_per_second:.0f} images/s")
        tell(", ".join(shown))

    def node_report(self, report: NodeReport) -> None:
        """Append a report of a machine beside the leading rank's."""
        self._append(asdict(report))

    def note(self, step: int, note: str) -> None:
        """Append a remark."""
        self._append({"note": note, "step": step})
        self.say(step, note)

    def activity(self, text: str) -> None:
        """Append what goes on before there is a step to report."""
        self._append({"activity": text})

    def say(self, step: int, text: str) -> None:
        """Tell only who looks at the terminal or the log: what the exit code says as well is no line of progress."""
        tell(f"step {step}: {text}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, content: dict[str, Any]) -> None:
        line = json.dumps(content | {"time": self._now().isoformat()}) + "\n"
        data = (b"\n" if self._torn else b"") + line.encode()
        try:
            self._torn = self._file.write(data) != len(data)
        except OSError as error:
            self._torn = True
            tell(f"progress.jsonl cannot be written: {error.strerror}")


def _ends_within_a_line(file: FileIO) -> bool:
    """Whether a writer was killed half-way."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        return False
    file.seek(size - 1)
    return file.read(1) != b"\n"
