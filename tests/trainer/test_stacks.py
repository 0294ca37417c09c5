"""SIGUSR1: where every thread is, on standard error; then it goes on."""

import signal
from pathlib import Path

from tests.trainer.launch import COLD, LONG, start, wait_until


def test_a_trainer_that_is_asked_says_where_it_is_and_goes_on(run_dir: Path) -> None:
    with start(run_dir, LONG) as run:
        run.wait_for_step(1)
        run.signal(signal.SIGUSR1)
        wait_until(lambda: "trainer/loop.py" in run.stderr(), "the stacks, which are written piece by piece")
        assert "most recent call first" in run.stderr()
        run.wait_for_step(run.reports()[-1]["step"] + 1)
        run.signal(signal.SIGTERM)
        assert run.wait() == [75]


def test_one_that_is_still_importing_torch_says_so_too(run_dir: Path) -> None:
    with start(run_dir, LONG, command=COLD) as run:
        libraries = Path(f"/proc/{run.processes[0].pid}/maps")
        wait_until(lambda: "libtorch" in libraries.read_text(), "torch to be loading")
        run.signal(signal.SIGUSR1)
        wait_until(lambda: "most recent call first" in run.stderr(), "the stacks")
        assert run.processes[0].poll() is None
