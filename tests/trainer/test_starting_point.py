"""Where a run goes on from, also when nobody has laid out a checkpoint for it."""

import shutil
import signal
from pathlib import Path

import psutil
import pytest

from tests.trainer.launch import EVERY_STEP, TINY, TORCHRUN, Run, result, start
from trainer.errors import CheckpointRefused
from trainer.starting_point import starting_point


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_same_command_goes_on_where_it_was_ended_and_comes_to_the_same_bits(
    end: signal.Signals, run_dir: Path, tmp_path: Path
) -> None:
    config = TINY | {"steps": 40}
    with start(tmp_path / "undisturbed", config) as undisturbed:
        undisturbed.finish()
    with start(run_dir, config, environ=EVERY_STEP) as run:
        run.wait_for_checkpoint()
        run.signal(end)
        (code,) = run.wait()
    assert code != 0, "it has ended before it could be disturbed"
    latest = run.checkpoints()[-1]
    if end == signal.SIGTERM:
        assert f"stopped as asked; the same command goes on from {latest}" in run.stderr()
    with start(run_dir, config) as run:
        run.finish()
        assert f"going on from {latest}" in run.stderr()
        assert f"finished: {run.checkpoints()[-1]}" in run.stderr()
    assert result(run)["digest"] == result(undisturbed)["digest"]


def test_under_torchrun_it_goes_on_by_itself_when_a_rank_is_lost(run_dir: Path, tmp_path: Path) -> None:
    config = TINY | {"steps": 40}
    with start(tmp_path / "undisturbed", config) as undisturbed:
        undisturbed.finish()
    with start(
        run_dir, config, command=(*TORCHRUN, "2", "--max-restarts", "1", "-m", "trainer"), environ=EVERY_STEP
    ) as run:
        run.wait_for_checkpoint()
        ranks = psutil.Process(run.processes[0].pid).children()
        ranks[-1].kill()
        run.finish()
        assert "going on from" in run.stderr()
    assert result(run)["digest"] == result(undisturbed)["digest"]


def test_in_the_directory_of_another_run_it_changes_nothing_and_says_what_differs(
    undisturbed: Run, run_dir: Path
) -> None:
    shutil.copytree(undisturbed.run_dir, run_dir)
    before = sorted((run_dir / "checkpoints").rglob("*"))
    with start(run_dir, TINY | {"seed": 7}) as run:
        assert run.wait() == [2]
        assert "seed (checkpoint 0, config 7)" in run.stderr()
        assert "in another directory" in run.stderr()
    assert sorted((run_dir / "checkpoints").rglob("*")) == before


def test_a_finished_run_that_is_started_again_tells_no_losses_of_steps_that_it_has_not_made(
    undisturbed: Run, run_dir: Path
) -> None:
    shutil.copytree(undisturbed.run_dir, run_dir)
    before = len(undisturbed.reports())
    with start(run_dir) as run:
        run.finish()
        (report,) = run.reports()[before:]
        assert "loss" not in run.stderr()
    assert [report[name] for name in ("loss", "class_loss", "consistency_loss", "samples_per_second")] == [None] * 4
    assert report["teacher_accuracy"] == result(undisturbed)["teacher_accuracy"]
    assert result(run)["digest"] == result(undisturbed)["digest"]


def test_of_what_was_laid_out_and_what_was_left_the_later_counts(undisturbed: Run, tmp_path: Path) -> None:
    resume, checkpoints = tmp_path / "resume", tmp_path / "checkpoints"
    assert starting_point(tmp_path) is None
    shutil.copytree(undisturbed.checkpoints()[-1], resume)  # of step 12
    assert starting_point(tmp_path) == resume
    for step in (3, 12):
        (checkpoints / f"step-{step:012}").mkdir(parents=True)
        assert starting_point(tmp_path) == resume
    (checkpoints / ".tmp-step-000000000099").mkdir()
    assert starting_point(tmp_path) == resume
    (checkpoints / f"step-{13:012}").mkdir()
    assert starting_point(tmp_path) == checkpoints / f"step-{13:012}"
    shutil.rmtree(resume)
    assert starting_point(tmp_path) == checkpoints / f"step-{13:012}"


def test_a_link_to_nothing_is_no_first_start(tmp_path: Path) -> None:
    (tmp_path / "resume").symlink_to("run/checkpoints/step-000000000012")
    with pytest.raises(CheckpointRefused, match="resume: a link to nothing"):
        starting_point(tmp_path)
