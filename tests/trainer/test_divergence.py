"""A loss that is no number stops the run with advice, or sends it back with half the learning rate."""

import re
import shutil
from pathlib import Path

import pytest

from tests.trainer.launch import EVERY_STEP, LONG, TINY, result, resume_from, start, wait_until

# The trainer itself, with one thing broken: in its third step a weight is no number, once.
POISONED = """
from trainer import __main__ as program, step
real, calls = step.TrainStep.run, []

def run(self, stop):
    calls.append(self._state.step)
    if len(calls) == 3:
        self._state.student.weights[100] = float("nan")
    return real(self, stop)

step.TrainStep.run = run
program.end_at_once(program.main())
"""
ROLLBACK = TINY | {"on_divergence": "rollback"}


REMEDIES = (
    r"lower optimizer\.lr \(0\.05\), lower consistency\.weight \(10\), optimizer\.clip_norm: 1\.0 or precision: fp32"
)
"""What a run with the settings of TINY may have otherwise, as a regular expression."""


@pytest.mark.parametrize("ranks", [1, 2])
def test_it_stops_with_the_step_the_last_good_checkpoint_and_what_to_change(run_dir: Path, ranks: int) -> None:
    with start(run_dir, code=POISONED, environ=EVERY_STEP, ranks=ranks) as run:
        assert run.wait() == [4] * ranks
        said = run.stderr()
        newest = run.checkpoints()[-1].name
    assert "the loss is not a number at step 3 (class loss nan" in said
    advice = (
        rf"; last good checkpoint: checkpoints/{newest}; set on_divergence: rollback, with which it can be resumed, "
        rf"or start a new run with {REMEDIES}, and with its student\.pt as model\.weights to keep what was learnt\n"
    )
    assert len(re.findall(advice, said)) == ranks
    assert "Traceback" not in said
    assert all("nan" not in str(report.values()) for report in run.reports())


def test_what_it_advises_can_be_done(run_dir: Path, tmp_path: Path) -> None:
    with start(run_dir, code=POISONED, environ=EVERY_STEP) as run:
        assert run.wait() == [4]
        newest = run.checkpoints()[-1]
    anew = TINY | {"model": {"weights": str(newest / "student.pt")}, "optimizer": {"lr": 0.01, "clip_norm": 1.0}}
    with start(tmp_path / "anew", anew) as run:
        run.finish()
    with start(resume_from(newest, tmp_path / "resumed"), ROLLBACK, code=POISONED) as run:
        run.finish()
        assert "with half the learning rate" in run.notes()[0]


def test_before_its_first_checkpoint_it_says_that_there_is_none(run_dir: Path) -> None:
    with start(run_dir, code=POISONED) as run:
        assert run.wait() == [4]
        assert re.search(
            rf"; there is no checkpoint yet; start it anew with on_divergence: rollback or {REMEDIES}\n", run.stderr()
        )


@pytest.mark.parametrize("ranks", [1, 2])
def test_it_goes_back_to_the_last_good_checkpoint_with_half_the_learning_rate(run_dir: Path, ranks: int) -> None:
    with start(run_dir, ROLLBACK, code=POISONED, environ=EVERY_STEP, ranks=ranks) as run:
        run.finish()
        (note,) = run.notes()
        assert "the loss is not a number at step 3" in note
        assert "with half the learning rate, now at most 0.025 (1 of 5)" in note
        assert result(run)["steps"] == 12
        assert run.reports()[-1]["learning_rate"] < 0.025
        assert run.reports()[-1]["student_accuracy"] > 0


def test_what_is_not_finite_is_never_a_checkpoint(run_dir: Path) -> None:
    with start(run_dir, ROLLBACK, code=POISONED, environ=EVERY_STEP) as run:
        run.finish()
        (note,) = run.notes()
    back_to = int(note.split("back to step ")[1].split(" ")[0])
    assert 0 <= back_to <= 2


def test_before_its_first_checkpoint_it_goes_back_to_the_start(run_dir: Path) -> None:
    with start(run_dir, ROLLBACK, code=POISONED) as run:
        run.finish()
        assert "back to step 0 with" in run.notes()[0]


def test_what_an_earlier_run_kept_in_the_same_directory_is_not_gone_back_to(run_dir: Path) -> None:
    with start(run_dir, ROLLBACK, environ=EVERY_STEP) as run:
        run.finish()
    assert (run_dir / "rollback").exists()
    shutil.rmtree(run_dir / "checkpoints")
    with start(run_dir, ROLLBACK, code=POISONED) as run:
        run.finish()
        assert "back to step 0 with" in run.notes()[0]


@pytest.mark.parametrize("laid_out", [True, False])
def test_or_to_where_it_was_resumed(laid_out: bool, run_dir: Path, tmp_path: Path) -> None:
    with start(run_dir, ROLLBACK | {"steps": 1000}) as run:
        run.wait_for_step(1)
        run.processes[0].terminate()
        assert run.wait() == [75]
    (checkpoint,) = run.checkpoints()
    step = int(checkpoint.name.removeprefix("step-"))
    second = resume_from(checkpoint, tmp_path / "second") if laid_out else run_dir
    with start(second, ROLLBACK | {"steps": 1000}, code=POISONED) as run:
        wait_until(lambda: bool(run.notes()) or run.processes[0].poll() is not None, "a note")
        assert run.notes(), run.stderr()
        assert f"not a number at step {step + 3}" in run.notes()[0]
        assert f"back to step {step} with" in run.notes()[0]


def test_what_diverges_again_and_again_stops(run_dir: Path) -> None:
    with start(run_dir, ROLLBACK | {"optimizer": {"lr": 1e25}, "precision": "fp32"}) as run:
        assert run.wait() == [4]
        assert len(run.notes()) == 5
        said = run.stderr()
    assert (
        "after going back 5 times with half the learning rate; there is no checkpoint yet; start it anew with" in said
    )
    assert "rollback" not in said.partition("after going back 5 times")[2]


@pytest.mark.parametrize("laid_out", [True, False])
def test_the_checkpoint_that_it_was_resumed_from_is_named(laid_out: bool, run_dir: Path, tmp_path: Path) -> None:
    with start(run_dir, LONG) as run:
        run.wait_for_step(1)
        run.processes[0].terminate()
        assert run.wait() == [75]
    (checkpoint,) = run.checkpoints()
    second = resume_from(checkpoint, tmp_path / "second") if laid_out else run_dir
    with start(second, LONG, code=POISONED) as run:
        assert run.wait() == [4]
        place = "resume/" if laid_out else f"checkpoints/{checkpoint.name}"
        assert f"; last good checkpoint: {place}; set on_divergence" in run.stderr()
