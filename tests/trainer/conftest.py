"""What the tests of the trainer share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trainer.launch import Run, start, warm_starts


@pytest.fixture(scope="session", autouse=True)
def warm() -> Iterator[None]:
    """Whoever does not ask for a start from nothing starts trainers without the import of torch."""
    with warm_starts():
        yield


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, warm: None) -> Run:
    """The tiny run on one rank from start to end: what every disturbed run must come to equal."""
    with start(tmp_path_factory.mktemp("undisturbed") / "run", environ={"ELASTIC_TENSORBOARD": "1"}) as run:
        run.finish()
    return run


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """In-process steps are small: threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A directory for one run."""
    return tmp_path / "run"
