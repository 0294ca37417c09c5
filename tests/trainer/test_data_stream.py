"""Streaming: the same samples as from the device's memory, in order, from any step on; and how it ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from tests.trainer.images import config_of, make_folders, picture
from tests.trainer.launch import COLD, runs, start, wait_until
from trainer.config import Loading, TrainingConfig
from trainer.data.batches import Batches, ResidentBatches, open_batches
from trainer.data.dataset import Dataset, ResidentPixels
from trainer.data.load import load_dataset
from trainer.data.loader import Loader
from trainer.data.pools import split_pools
from trainer.data.residence import fits_on_device
from trainer.data.sources import StreamedPixels
from trainer.data.stream import StreamedBatches
from trainer.errors import ConfigError, TrainerError
from trainer.sampling import Sampler

CPU = torch.device("cpu")
SHARDS = 2
STEPS = 9  # 36 unlabelled images of 22: into the second epoch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folders(tmp_path_factory.mktemp("stream") / "images")


Open = Callable[..., Batches]


@pytest.fixture
def opened(root: Path) -> Iterator[Open]:
    """Opens batches as the loop does, and closes them in the end."""
    all_opened = []

    def open_them(step: int = 0, shards: range = range(SHARDS), data_dir: str | None = None, **loading: Any) -> Batches:
        changes = {} if data_dir is None else {"data_dir": data_dir}
        config = config_of(root, labels=6, loading=loading, **changes)
        dataset = load_dataset(config, CPU)
        batches = open_batches(config.loading, dataset, _sampler(config, dataset), shards, step, CPU)
        all_opened.append(batches)
        return batches

    yield open_them
    for batches in all_opened:
        batches.close()


def _sampler(config: TrainingConfig, dataset: Dataset) -> Sampler:
    plan = config.plan(dataset.facts)
    extra = dataset.facts.extra_unlabelled
    return Sampler(config, split_pools(dataset.train_classes, plan, config.seed, extra_unlabelled=extra))


def samples(batches: Batches, steps: range, shards: range = range(SHARDS)) -> list[tuple[torch.Tensor, torch.Tensor]]:
    taken = [batches.take(step, shard) for step in steps for shard in shards]
    return [(batch.pixels, batch.classes) for batch in taken]


def are_equal(some: list[tuple[torch.Tensor, torch.Tensor]], others: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", [False, True], ids=["from files", "from what was kept"])
def test_streamed_samples_are_those_of_the_device(opened: Open, workers: int, kept: bool, tmp_path: Path) -> None:
    resident = opened(images="device")
    streamed = opened(images="stream", workers=workers, data_dir=None if kept else str(tmp_path))
    assert isinstance(resident, ResidentBatches) and isinstance(streamed, StreamedBatches)
    assert are_equal(samples(resident, range(STEPS)), samples(streamed, range(STEPS)))


@pytest.mark.parametrize("workers", [0, 2])
def test_another_step_than_the_next_begins_anew_from_there(opened: Open, workers: int) -> None:
    resident, streamed = opened(images="device"), opened(step=5, images="stream", workers=workers)
    for steps in (range(5, 7), range(2, 4), range(8, 9), range(8, 10)):
        assert are_equal(samples(resident, steps), samples(streamed, steps))


def test_each_rank_reads_its_own_shards(opened: Open) -> None:
    resident = opened(images="device")
    for shards in (range(1), range(1, 2)):
        streamed = opened(shards=shards, images="stream", workers=0)
        assert are_equal(samples(resident, range(3), shards), samples(streamed, range(3), shards))


def test_test_images_are_streamed_too(root: Path) -> None:
    resident, streamed = (load_dataset(config_of(root, loading={"images": i}), CPU) for i in ("device", "stream"))
    assert isinstance(resident.test, ResidentPixels) and isinstance(streamed.test, StreamedPixels)
    for indices in (torch.arange(9), torch.tensor([4, 1]), torch.tensor([], dtype=torch.int64)):
        assert torch.equal(resident.test.fetch(indices), streamed.test.fetch(indices))


def test_streaming_leaves_the_global_generator_alone(opened: Open) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    samples(opened(images="stream", workers=1), range(1))
    assert torch.equal(torch.rand(1), expected)


def test_waiting_for_images_is_counted(opened: Open) -> None:
    batches = opened(images="stream", workers=1)
    started = time.perf_counter()
    samples(batches, range(2))
    assert 0 < batches.wait_s <= time.perf_counter() - started


def test_processes_end_when_batches_are_closed(opened: Open) -> None:
    before = set(multiprocessing.active_children())
    batches = opened(images="stream", workers=2)
    samples(batches, range(1))
    children = set(multiprocessing.active_children()) - before
    assert len(children) == 2 and all(child.daemon for child in children)
    batches.close()
    assert not any(child.is_alive() for child in children)


def test_a_process_that_died_is_told_at_once_and_by_its_signal(opened: Open) -> None:
    before = set(multiprocessing.active_children())
    handler = signal.getsignal(signal.SIGCHLD)
    batches = opened(images="stream", workers=1)
    samples(batches, range(1))
    assert signal.getsignal(signal.SIGCHLD) == handler  # else it would be told wherever the loop is
    (child,) = set(multiprocessing.active_children()) - before
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(
        TrainerError, match=rf"a loader process \(pid {child.pid}\) ended by SIGKILL; .*loading.workers"
    ):
        samples(batches, range(1, 100))


def test_processes_leave_the_signals_of_a_drain_to_the_rank(opened: Open) -> None:
    before = set(multiprocessing.active_children())
    batches = opened(images="stream", workers=1)
    samples(batches, range(1))
    (child,) = set(multiprocessing.active_children()) - before
    assert child.pid is not None
    os.kill(child.pid, signal.SIGTERM)
    os.kill(child.pid, signal.SIGINT)
    samples(batches, range(1, 30))
    assert child.is_alive()


def _after_a_change(change: Callable[[Path], object], tmp_path: Path, workers: int) -> tuple[Dataset, Batches]:
    """Images that are streamed, each file changed after it was looked at."""
    root = make_folders(tmp_path / "images")
    config = config_of(root, loading={"images": "stream", "workers": workers})
    dataset = load_dataset(config, CPU)
    for path in root.rglob("*.png"):
        change(path)
    batches = open_batches(config.loading, dataset, _sampler(config, dataset), range(SHARDS), 0, CPU)
    return dataset, batches


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_became_unreadable_is_told(tmp_path: Path, workers: int) -> None:
    dataset, batches = _after_a_change(lambda path: path.write_bytes(b""), tmp_path, workers)
    with pytest.raises(TrainerError, match=r"can no longer be read, .*\.png \(no image format .*\); put it back"):
        batches.take(0, 0)
    batches.close()
    with pytest.raises(TrainerError, match="can no longer be read"):
        dataset.test.fetch(torch.arange(3))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_became_another_is_told(tmp_path: Path, workers: int) -> None:
    dataset, batches = _after_a_change(lambda path: picture(7).save(path), tmp_path, workers)
    with (
        closing(batches),
        pytest.raises(TrainerError, match=r"is no longer what it was when it was looked at first: .*\.png; put that"),
    ):
        batches.take(0, 0)
    with pytest.raises(TrainerError, match="is no longer what it was"):
        dataset.test.fetch(torch.arange(3))


def test_an_image_that_was_touched_or_linked_is_the_same(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "images")
    dataset = load_dataset(config_of(root, loading={"images": "stream"}), CPU)
    before = dataset.test.fetch(torch.arange(9))
    for number, path in enumerate((root / "test").rglob("*.png")):
        path.touch()
        os.link(path, tmp_path / f"{number}.png")
    assert torch.equal(dataset.test.fetch(torch.arange(9)), before)


def test_what_a_process_raises_reaches_the_rank() -> None:
    def read(part: np.ndarray[Any, Any]) -> torch.Tensor:
        raise ZeroDivisionError("a fault of ours")

    loader = Loader(read, iter([np.arange(2)]), workers=1)
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        next(loader)
    loader.close()


def test_auto_streams_what_would_take_more_than_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.residence._available_bytes", lambda: 1000)
    auto = Loading(images="auto")
    assert fits_on_device(auto, 500, CPU) and not fits_on_device(auto, 501, CPU)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert fits_on_device(auto, 250, CPU) and not fits_on_device(auto, 251, CPU)
    assert not fits_on_device(Loading(images="stream"), 1, CPU)
    assert fits_on_device(Loading(images="device"), 500, CPU)
    with pytest.raises(ConfigError, match=r"loading\.images: .* set it to stream or auto"):
        fits_on_device(Loading(images="device"), 501, CPU)


@pytest.fixture
def long_run(root: Path) -> dict[str, Any]:
    config = config_of(root, steps=100_000, loading={"images": "stream", "workers": 2}, evaluate_every=50)
    return config.model_dump(mode="json", exclude_none=True)


def test_no_process_outlives_a_rank_that_was_killed(run_dir: Path, long_run: dict[str, Any]) -> None:
    with start(run_dir, long_run, command=COLD) as run:
        run.wait_for_step(2)
        workers = psutil.Process(run.processes[0].pid).children()
        assert len(workers) == 2
        run.signal(signal.SIGKILL)
        run.wait()
        wait_until(lambda: not any(runs(worker) for worker in workers), "the loader processes to end")


def test_a_run_that_streams_drains_though_all_its_processes_get_the_signal(
    run_dir: Path, long_run: dict[str, Any]
) -> None:
    with start(run_dir, long_run, command=COLD) as run:
        run.wait_for_step(2)
        workers = psutil.Process(run.processes[0].pid).children()
        for worker in workers:
            worker.terminate()
        run.signal(signal.SIGTERM)
        assert run.wait() == [75], run.stderr()
        assert not any(runs(worker) for worker in workers)
        assert run.checkpoints()


def test_digits_start_without_the_libraries_of_other_data_sets() -> None:
    program = (
        "import sys, torch\n"
        "from trainer.config import TrainingConfig\n"
        "import trainer.data.batches\n"
        "from trainer.data.load import load_dataset\n"
        "load_dataset(TrainingConfig.model_validate({'steps': 1}), torch.device('cpu'))\n"
        "print([name for name in ('PIL', 'torchvision', 'scipy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
