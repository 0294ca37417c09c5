"""TensorBoard's curves from a job's progress lines; the same as the trainer writes when it is run alone."""

from collections.abc import Iterable
from pathlib import Path

from orchestrator.reading.progress_reports import reports, seconds_of

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
"""The curve of each field; a test holds them to the trainer's own."""


def write_curves(lines: Iterable[bytes], directory: Path) -> Path:
    """Write one file of events into a directory and return it. Steps that were done again replace the first ones."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*tfevents*"):  # TensorBoard would draw them too
        old.unlink()
    writer = EventsWriter(str(directory / "events"))
    last_step = 0
    for report in reports(lines):
        step, at_s = int(report["step"]), seconds_of(report)
        if step <= last_step:
            restart = SessionLog(status=SessionLog.START)
            writer.write_event(Event(wall_time=at_s, step=step, session_log=restart))
        last_step = step
        values = [
            Summary.Value(tag=tag, simple_value=float(report[field]))
            for field, tag in TAGS.items()
            if isinstance(report.get(field), int | float)
        ]
        writer.write_event(Event(wall_time=at_s, step=step, summary=Summary(value=values)))
    writer.close()
    return next(directory.glob("*tfevents*"))
