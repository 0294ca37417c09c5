"""The same bits whatever the settings, the number of ranks, the way the images come, and the moment of its end."""

import signal
import sys
import time
from pathlib import Path
from random import Random

import pytest

from tests.trainer.any_config import draw_config, draw_loading
from tests.trainer.images import make_folders
from tests.trainer.launch import EVERY_STEP, result, resume_from, start, wait_until

pytestmark = pytest.mark.timeout(900)

STOPPED = 75


@pytest.mark.parametrize("number", range(2))
def test_a_run_with_any_settings_comes_to_the_same_bits_however_it_is_disturbed(number: int, tmp_path: Path) -> None:
    seed = Random().randrange(sys.maxsize)  # another one in every session
    check(seed, tmp_path)


def check(seed: int, root: Path) -> None:
    """Compare a run on one rank with one that is disturbed, both as drawn from the seed."""
    draws = Random(seed)
    images = make_folders(root / "images")
    config = draw_config(draws, images) | {"data_dir": str(root / "data")}
    with start(root / "undisturbed", config | {"loading": draw_loading(draws)}) as undisturbed:
        undisturbed.finish()
    run_dir, history = root / "0", []
    for attempt in range(4):
        ranks, loading = draws.choice((1, 2, 4)), draw_loading(draws)
        with start(run_dir, config | {"loading": loading}, ranks=ranks, environ=EVERY_STEP) as run:
            if attempt < 3:
                end = draws.choice((signal.SIGTERM, signal.SIGKILL))
                wait_until(lambda: bool(run.reports()) or any(p.poll() is not None for p in run.processes), "a step")
                time.sleep(draws.uniform(0, 0.5))  # the moment is the test, not a wait
                for rank in range(ranks):
                    run.signal(end, rank)
            codes = run.wait()
        history.append((ranks, loading, codes))
        told = f"seed {seed}: {config}, {history}, {run.stderr()}"
        if codes == [0] * ranks:
            assert (result(run)["digest"], result(run)["confusion"]) == (
                result(undisturbed)["digest"],
                result(undisturbed)["confusion"],
            ), told
            return
        assert set(codes) <= {0, STOPPED, -signal.SIGKILL}, told
        latest = run.checkpoints()[-1] if run.checkpoints() else run_dir / "resume"
        run_dir = root / f"{attempt + 1}"
        if latest.exists():
            resume_from(latest, run_dir)
    pytest.fail(f"never finished; {told}")
