"""CIFAR, SVHN and STL-10 in their real formats, small: downloaded, checked, decoded once, and told when not there."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainer.archives import serve, small_cifar10, small_cifar100, small_stl10, small_svhn
from trainer.config import TrainingConfig
from trainer.data.dataset import Dataset, ResidentPixels, channel_statistics
from trainer.data.load import load_dataset
from trainer.data.sources import StreamedPixels
from trainer.errors import ConfigError

CPU = torch.device("cpu")
CIFAR10_FILE = "cifar-10-python.tar.gz"


def load(name: str, data_dir: Path, **changes: Any) -> Dataset:
    config = {"dataset": name, "data_dir": str(data_dir), "labels": "100%", "steps": 1, **changes}
    return load_dataset(TrainingConfig.model_validate(config), CPU)


def pixels(dataset: Dataset, part: str = "train") -> torch.Tensor:
    images = dataset.train if part == "train" else dataset.test
    return images.fetch(torch.arange(len(images)))


def holds(dataset: Dataset, train: np.ndarray[Any, Any], test: np.ndarray[Any, Any]) -> bool:
    return np.array_equal(pixels(dataset).numpy(), train) and np.array_equal(pixels(dataset, "test").numpy(), test)


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    with serve({}) as server:
        return server.address


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}) as server:
        packed, train, test = small_cifar10(monkeypatch, server.address)
        server.files[CIFAR10_FILE] = packed
        dataset = load("cifar10", tmp_path)
    assert holds(dataset, train, test)
    assert dataset.train_classes.tolist() == [n % 10 for n in range(30)]
    assert dataset.test_classes.tolist() == [n % 10 for n in range(12)]
    assert dataset.class_names[3] == "kind 3"
    assert torch.equal(dataset.mean, channel_statistics(torch.from_numpy(train))[0])


def test_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}) as server:
        packed, train, test = small_cifar100(monkeypatch, server.address)
        server.files["cifar-100-python.tar.gz"] = packed
        dataset = load("cifar100", tmp_path, batch=128)
    assert holds(dataset, train, test)
    assert dataset.train_classes.tolist() == [n % 100 for n in range(120)]
    assert len(dataset.class_names) == 100


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}) as server:
        files, train, test = small_svhn(monkeypatch, server.address)
        server.files.update(files)
        dataset = load("svhn", tmp_path)
    assert holds(dataset, train, test)
    assert dataset.train_classes.tolist() == [n % 10 for n in range(20)]  # the digit 0 is class 0
    assert dataset.class_names == tuple("0123456789")
    assert not dataset.facts.mirrors


def test_stl10s_unlabelled_images_follow_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}) as server:
        packed, train, test = small_stl10(monkeypatch, server.address)
        server.files["stl10_binary.tar.gz"] = packed
        dataset = load("stl10", tmp_path)
    assert holds(dataset, train, test)
    assert dataset.train_classes.tolist() == list(range(10))
    assert (dataset.facts.train_images, dataset.facts.extra_unlabelled) == (10, 7)
    assert torch.equal(dataset.mean, channel_statistics(torch.from_numpy(train[:10]))[0])


def test_a_later_start_needs_neither_torchvision_nor_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve({}) as server:
        packed, train, test = small_cifar10(monkeypatch, server.address)
        server.files[CIFAR10_FILE] = packed
        first = load("cifar10", tmp_path)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    for images, kind in (("device", ResidentPixels), ("stream", StreamedPixels)):
        later = load("cifar10", tmp_path, loading={"images": images})
        assert isinstance(later.train, kind)
        assert holds(later, train, test)
        assert (later.fingerprint, later.class_names) == (first.fingerprint, first.class_names)
        assert torch.equal(later.std, first.std)


def test_ranks_that_start_together_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}) as server:
        server.files[CIFAR10_FILE], *_ = small_cifar10(monkeypatch, server.address)
        load("cifar10", tmp_path / "alone")
        by_one = len(server.downloads)
        with ThreadPoolExecutor(3) as ranks:
            datasets = list(ranks.map(lambda _: load("cifar10", tmp_path / "together"), range(3)))
    assert len(server.downloads) == 2 * by_one
    assert len({dataset.fingerprint for dataset in datasets}) == 1


def test_an_interrupted_download_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}) as server:
        packed, train, test = small_cifar10(monkeypatch, server.address)
        server.files[CIFAR10_FILE], server.sent_at_most = packed, 1000
        with pytest.raises(ConfigError, match="has no whole copy and it could not be downloaded"):
            load("cifar10", tmp_path)
        server.sent_at_most = None
        assert holds(load("cifar10", tmp_path), train, test)


def test_an_unpacking_that_was_cut_short_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: str
) -> None:
    packed, train, test = small_cifar10(monkeypatch, nowhere)
    (tmp_path / CIFAR10_FILE).write_bytes(packed)  # put there by hand
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"half")
    assert holds(load("cifar10", tmp_path), train, test)


def test_what_was_kept_only_in_part_is_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: str
) -> None:
    packed, train, test = small_cifar10(monkeypatch, nowhere)
    (tmp_path / CIFAR10_FILE).write_bytes(packed)
    load("cifar10", tmp_path)
    (kept,) = (tmp_path / "decoded").glob("cifar10-v*")
    (kept / "test.npy").write_bytes((kept / "test.npy").read_bytes()[:-1])
    assert holds(load("cifar10", tmp_path), train, test)
    (kept / "about.json").unlink()
    assert holds(load("cifar10", tmp_path), train, test)


@pytest.mark.parametrize(("name", "file"), [("cifar10", CIFAR10_FILE), ("svhn", "train_32x32.mat")])
def test_without_network_one_sentence_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: str, name: str, file: str
) -> None:
    small_cifar10(monkeypatch, nowhere)
    small_svhn(monkeypatch, nowhere)
    with pytest.raises(ConfigError) as caught:
        load(name, tmp_path / "data")
    message = str(caught.value)
    assert message.startswith(f"dataset {name}: {tmp_path}/data has no whole copy and it could not be downloaded (")
    assert "refused" in message and "\n" not in message
    assert f"put there what these addresses give, or set data_dir: {nowhere}/{file}" in message


@pytest.mark.parametrize(("data_dir", "reason"), [("file/data", "Not a directory"), ("file", "File exists")])
def test_a_data_dir_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: str, data_dir: str, reason: str
) -> None:
    small_cifar10(monkeypatch, nowhere)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        load("cifar10", tmp_path / data_dir)
    assert str(caught.value) == (
        f"dataset cifar10: {tmp_path / data_dir} cannot be used for its files: {reason}; "
        "set data_dir to a directory that can be written and has room"
    )


def test_a_directory_in_the_way_of_a_download_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}) as server:
        server.files[CIFAR10_FILE], *_ = small_cifar10(monkeypatch, server.address)
        (tmp_path / "cifar-10-batches-py").write_text("")
        with pytest.raises(ConfigError, match=r"/cifar-10-batches-py.* cannot be used for its files: "):
            load("cifar10", tmp_path)


def test_a_full_disk_costs_time_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    packed, train, test = small_cifar10(monkeypatch, nowhere)
    (tmp_path / CIFAR10_FILE).write_bytes(packed)
    monkeypatch.setattr("trainer.data.shelf.LARGEST_SHARE_OF_FREE_DISK", 0.0)
    for images in ("device", "stream"):
        dataset = load("cifar10", tmp_path, loading={"images": images})
        assert holds(dataset, train, test)
        assert dataset.remarks[0].startswith("dataset cifar10: decoded again at every start, since ")


def test_by_default_data_sets_are_in_a_cache_directory_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nowhere: str
) -> None:
    small_cifar10(monkeypatch, nowhere)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = TrainingConfig.model_validate({"dataset": "cifar10", "labels": "100%", "steps": 1})
    with pytest.raises(ConfigError, match="/elastic/datasets has no whole copy"):
        load_dataset(config, CPU)


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.named.SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        small_cifar10(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ConfigError, match="timed out"):
            load("cifar10", tmp_path)
