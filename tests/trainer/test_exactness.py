"""The same bits whatever happens: any number of ranks, killed at any moment, resized on the way."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.trainer.launch import EVERY_STEP, TINY, TORCHRUN, Run, result, resume_from, start, wait_until

pytestmark = pytest.mark.timeout(900)

STEM = {"fp32": "cifar", "bf16": "cifar", "fp16": "imagenet"}
"""Processors are slow at convolutions in fp16, and the other stem has a fraction of them."""


def test_torchrun_with_two_ranks_gives_the_same_bits_as_one_process(undisturbed: Run, run_dir: Path) -> None:
    with start(run_dir, command=(*TORCHRUN, "2", "-m", "trainer")) as run:
        run.finish()
        assert run.reports()[-1]["world_size"] == 2
        assert result(run)["digest"] == result(undisturbed)["digest"]
        assert result(run)["confusion"] == result(undisturbed)["confusion"]


def test_four_ranks_give_the_same_bits_as_one_process(undisturbed: Run, run_dir: Path) -> None:
    with start(run_dir, ranks=4) as run:
        run.finish()
        assert result(run)["digest"] == result(undisturbed)["digest"]


@pytest.mark.parametrize("precision", STEM)
def test_killed_at_any_moment_and_resumed_it_comes_to_the_same_bits(precision: str, tmp_path: Path) -> None:
    moment = random.Random()  # another moment in every session
    config = TINY | {"precision": precision, "model": {"stem": STEM[precision]}}
    with start(tmp_path / "undisturbed", config) as undisturbed:
        undisturbed.finish()
    latest: Path | None = None
    for attempt in range(10):
        run_dir = tmp_path / f"attempt-{attempt}"
        if latest is not None:
            resume_from(latest, run_dir)
        with start(run_dir, config, environ=EVERY_STEP) as run:
            if attempt < 2:
                # It may have so few steps left that it ends before anybody looks.
                wait_until(lambda: bool(run.reports()) or run.processes[0].poll() is not None, "a step")
                time.sleep(moment.uniform(0, 0.7))  # the moment is the test, not a wait
                run.signal(signal.SIGKILL)
            codes = run.wait()
            if codes == [0]:
                assert result(run)["digest"] == result(undisturbed)["digest"]
                return
            assert codes == [-signal.SIGKILL], run.stderr()
            if run.checkpoints():
                latest = run.checkpoints()[-1]
            elif latest is not None:
                latest = run_dir / "resume"
    pytest.fail("never finished")


def test_one_rank_then_two_then_four_then_one_at_any_step_comes_to_the_same_bits(tmp_path: Path) -> None:
    moment = random.Random()
    config = TINY | {"steps": 40}
    with start(tmp_path / "undisturbed", config) as undisturbed:
        undisturbed.finish()
    run_dir, step = tmp_path / "0", 0
    for number, ranks in enumerate((1, 2, 4)):
        with start(run_dir, config, ranks=ranks) as run:
            run.wait_for_step(step + 1)
            time.sleep(moment.uniform(0, 0.3))  # as above
            run.signal(signal.SIGTERM, rank=ranks - 1)
            assert run.wait() == [75] * ranks, run.stderr()
        checkpoint = run.checkpoints()[-1]
        assert step < int(checkpoint.name.removeprefix("step-")) < 40
        step = int(checkpoint.name.removeprefix("step-"))
        run_dir = resume_from(checkpoint, tmp_path / f"{number + 1}")
    with start(run_dir, config) as run:
        run.finish()
        assert run.reports()[0]["step"] > step
        assert result(run)["digest"] == result(undisturbed)["digest"]


def test_resumed_from_its_last_step_it_tells_the_same_result(undisturbed: Run, run_dir: Path) -> None:
    run_dir.mkdir()
    shutil.copytree(undisturbed.checkpoints()[-1], run_dir / "resume")
    with start(run_dir) as run:
        run.finish()
        assert result(run)["digest"] == result(undisturbed)["digest"]
