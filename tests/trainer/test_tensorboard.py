"""Curves are what the reports say, go on without doubling, and what hinders them does not hinder the run."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from tests.trainer.launch import TINY, Run, start
from trainer.errors import ConfigError
from trainer.options import parse_options
from trainer.progress import Report
from trainer.tensorboard import TAGS, TensorBoard

SHORT = TINY | {"steps": 2}
CURVES = {"ELASTIC_TENSORBOARD": "1"}

REPORT = Report(
    step=1,
    total_steps=10,
    epoch=0.5,
    samples=16,
    samples_per_second=100.0,
    loss=2.0,
    class_loss=1.5,
    consistency_loss=0.25,
    head_distance=None,
    consistency_weight=2.0,
    learning_rate=0.1,
    ema_decay=0.9,
    student_accuracy=None,
    teacher_accuracy=None,
    data_wait=0.0,
    memory_bytes=1,
    checkpoint_stall_s=0.0,
    world_size=1,
    loss_scale=None,
    skipped_updates=None,
)


def now() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def events(directory: Path) -> Iterator[Any]:
    """What is in the files, in the order in which TensorBoard reads them: by name."""
    for path in sorted(directory.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:  # TFRecord: length, its checksum, content, its checksum
            (length,), content = struct.unpack_from("<Q", data), data[12:]
            assert struct.unpack_from("<I", data, 8)[0] == masked_crc32c(data[:8])
            assert struct.unpack_from("<I", content, length)[0] == masked_crc32c(content[:length])
            yield Event.FromString(content[:length])
            data = content[length + 4 :]


def curves(directory: Path) -> dict[str, dict[int, list[float]]]:
    """The values of each curve by step, as TensorBoard shows them: a session's start voids what is at or after it."""
    found: dict[str, dict[int, list[float]]] = {}
    for event in events(directory):
        if event.session_log.status == SessionLog.START:
            found = {tag: {at: v for at, v in curve.items() if at < event.step} for tag, curve in found.items()}
        for value in event.summary.value:
            found.setdefault(value.tag, {}).setdefault(event.step, []).append(value.simple_value)
    return found


def test_the_curves_of_a_run_are_what_its_reports_say(undisturbed: Run) -> None:
    found, reports = curves(undisturbed.run_dir / "tensorboard"), undisturbed.reports()
    for field, tag in TAGS.items():
        expected = {report["step"]: [pytest.approx(report[field])] for report in reports if report[field] is not None}
        assert found.get(tag, {}) == expected, tag
    assert {"loss/total", "accuracy/teacher", "rates/learning_rate", "speed/data_wait"} <= found.keys()


def test_every_figure_of_a_report_has_a_curve() -> None:
    steps = {"step", "total_steps", "samples"}
    assert TAGS.keys() == vars(REPORT).keys() - steps
    assert len(set(TAGS.values())) == len(TAGS)


def test_a_resume_draws_each_step_once_and_keeps_what_came_before(tmp_path: Path) -> None:
    # The first process is killed after step 5; the second goes on from a checkpoint of step 3.
    for first, last, loss in ((0, 5, 1.0), (3, 6, 2.0)):
        board = TensorBoard(tmp_path, first, now)
        for step in range(first + 1, last + 1):
            board.report(replace(REPORT, step=step, loss=loss))
        board.close()
        assert board.failure() is None
    assert len(list(tmp_path.iterdir())) == 2
    expected = {1: [1.0], 2: [1.0], 3: [1.0], 4: [2.0], 5: [2.0], 6: [2.0]}
    assert curves(tmp_path)["loss/total"] == expected


def test_a_roll_back_draws_anew_what_it_undid(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, 0, now)
    for step in (1, 2, 3):
        board.report(replace(REPORT, step=step, loss=1.0))
    board.restart(1)
    board.report(replace(REPORT, step=2, loss=2.0))
    board.close()
    assert curves(tmp_path)["loss/total"] == {1: [1.0], 2: [2.0]}


def test_files_that_cannot_be_written_cost_the_curves_and_not_the_run(run_dir: Path) -> None:
    run_dir.mkdir()
    (run_dir / "tensorboard").write_text("in the way")
    with start(run_dir, SHORT, environ=CURVES) as run:
        run.finish()
    (note,) = run.notes()
    assert note == f"no more TensorBoard curves: {run_dir / 'tensorboard'} cannot be written: File exists"
    assert run.checkpoints()[-1].name == "step-000000000002"


def test_a_missing_package_costs_the_curves_and_not_the_run(run_dir: Path) -> None:
    script = "import runpy, sys; sys.modules['tensorboardX'] = None; runpy.run_module('trainer', run_name='__main__')"
    with start(run_dir, SHORT, code=script, environ=CURVES) as run:
        run.finish()
    (note,) = run.notes()
    assert note.startswith("no TensorBoard curves: tensorboardX cannot be imported: ")
    assert not (run_dir / "tensorboard").exists()


def test_a_disk_that_fills_up_is_told_once_and_nobody_waits_for_it(tmp_path: Path) -> None:
    script = """
import resource, sys, time
from dataclasses import replace
from pathlib import Path
from tests.trainer.test_tensorboard import REPORT, now
from trainer.tensorboard import TensorBoard

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
board, told, deadline, step = TensorBoard(Path(sys.argv[1]), 0, now), [], time.monotonic() + 60, 0
while not told and time.monotonic() < deadline:
    step += 1
    board.report(replace(REPORT, step=step))
    told += [failure] if (failure := board.failure()) else []
    time.sleep(0.001)
for step in range(step, step + 100):
    board.report(replace(REPORT, step=step))
board.close()
assert board.failure() is None
print(told)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout == f"['no more TensorBoard curves: {tmp_path} cannot be written: File too large']\n", done.stderr
    assert done.stderr == ""


def test_it_can_be_left_out(run_dir: Path) -> None:
    with start(run_dir, SHORT, environ={"ELASTIC_TENSORBOARD": "0"}) as run:
        run.finish()
    assert not (run_dir / "tensorboard").exists()
    assert parse_options(["config", "run"], {}).tensorboard
    assert not parse_options(["config", "run", "--no-tensorboard"], {}).tensorboard
    with pytest.raises(ConfigError, match="ELASTIC_TENSORBOARD: 'no' is neither 0 nor 1"):
        parse_options(["config", "run"], {"ELASTIC_TENSORBOARD": "no"})


def test_what_only_some_runs_have_is_reported_by_those_alone(run_dir: Path, undisturbed: Run) -> None:
    special = ("head_distance", "loss_scale", "skipped_updates")
    assert all(report[name] is None for report in undisturbed.reports() for name in special)
    config = SHORT | {"precision": "fp16", "consistency": {"second_head": True}}
    with start(run_dir, config, environ=CURVES) as run:
        run.finish()
    last = run.reports()[-1]
    assert last["head_distance"] > 0
    assert last["loss_scale"] == 2.0 ** (16 - last["skipped_updates"])
    parts = last["class_loss"] + last["consistency_weight"] * last["consistency_loss"] + 0.01 * last["head_distance"]
    assert last["loss"] == pytest.approx(parts)
