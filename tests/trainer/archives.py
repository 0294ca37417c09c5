"""Tiny CIFAR, SVHN and STL-10 in their real formats, and a loopback server that torchvision downloads them from."""

import hashlib
import http.server
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.config import DATASETS, DatasetFacts

Images = NDArray[np.uint8]


def images(seed: int, count: int, px: int) -> Images:
    """Noise, [count, 3, px, px]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, px, px), dtype=np.uint8)


@dataclass
class Server:
    """Files by name; what was asked for; how much of a file is sent before the line goes dead."""

    files: dict[str, bytes]
    address: str = ""
    downloads: list[str] = field(default_factory=list)
    sent_at_most: int | None = None


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve these files on the loopback interface."""
    state = Server(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(b"")

        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            state.downloads.append(name)
            self._answer(state.files[name][: state.sent_at_most])

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.files[self.path.rsplit("/", 1)[-1]])))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def md5(content: bytes) -> str:
    """The checksum that torchvision compares."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def archive(files: dict[str, bytes]) -> bytes:
    """A .tar.gz of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def small_cifar10(monkeypatch: pytest.MonkeyPatch, address: str) -> tuple[bytes, Images, Images]:
    """cifar-10-python.tar.gz with two batches of 15 images and 12 to test, known to torchvision by its checksums."""
    from torchvision.datasets import CIFAR10

    train, test = images(1, 30, 32), images(2, 12, 32)
    batches = {"data_batch_1": (train[:15], 0), "data_batch_2": (train[15:], 15), "test_batch": (test, 0)}
    content = {
        name: pickle.dumps({"data": rows.reshape(len(rows), -1), "labels": [(i + at) % 10 for i in range(len(rows))]})
        for name, (rows, at) in batches.items()
    }
    content["batches.meta"] = pickle.dumps({"label_names": [f"kind {n}" for n in range(10)]})
    packed = archive({f"{CIFAR10.base_folder}/{name}": data for name, data in content.items()})
    monkeypatch.setattr(CIFAR10, "url", f"{address}/{CIFAR10.filename}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed))
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(content[name])] for name in batches if "data" in name])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(content["test_batch"])]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(content["batches.meta"])})
    monkeypatch.setitem(DATASETS, "cifar10", DatasetFacts(30, 12, 10, 32))
    return packed, train, test


def small_cifar100(monkeypatch: pytest.MonkeyPatch, address: str) -> tuple[bytes, Images, Images]:
    """cifar-100-python.tar.gz with 120 images to train and 100 to test."""
    from torchvision.datasets import CIFAR100

    train, test = images(3, 120, 32), images(4, 100, 32)
    content = {
        name: pickle.dumps(
            {
                "data": rows.reshape(len(rows), -1),
                "fine_labels": [i % 100 for i in range(len(rows))],
                "coarse_labels": [],
            }
        )
        for name, rows in (("train", train), ("test", test))
    }
    content["meta"] = pickle.dumps({"fine_label_names": [f"kind {n}" for n in range(100)]})
    packed = archive({f"{CIFAR100.base_folder}/{name}": data for name, data in content.items()})
    monkeypatch.setattr(CIFAR100, "url", f"{address}/{CIFAR100.filename}")
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5(packed))
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5(content["train"])]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5(content["test"])]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": md5(content["meta"])})
    monkeypatch.setitem(DATASETS, "cifar100", DatasetFacts(120, 100, 100, 32))
    return packed, train, test


def small_svhn(monkeypatch: pytest.MonkeyPatch, address: str) -> tuple[dict[str, bytes], Images, Images]:
    """The two .mat files, where images come last in the order of the axes and zero is class 10."""
    import scipy.io
    from torchvision.datasets import SVHN

    train, test = images(5, 20, 32), images(6, 10, 32)
    files, splits = {}, dict(SVHN.split_list)
    for split, rows in (("train", train), ("test", test)):
        buffer = io.BytesIO()
        classes = np.array([i % 10 or 10 for i in range(len(rows))], dtype=np.uint8)
        scipy.io.savemat(buffer, {"X": rows.transpose(2, 3, 1, 0), "y": classes[:, None]})
        name = f"{split}_32x32.mat"
        files[name] = buffer.getvalue()
        splits[split] = [f"{address}/{name}", name, md5(files[name])]
    monkeypatch.setattr(SVHN, "split_list", splits)
    monkeypatch.setitem(DATASETS, "svhn", DatasetFacts(20, 10, 10, 32, mirrors=False))
    return files, train, test


def small_stl10(monkeypatch: pytest.MonkeyPatch, address: str) -> tuple[bytes, Images, Images]:
    """stl10_binary.tar.gz: columns first, classes from 1; the last 7 of the training images have none."""
    from torchvision.datasets import STL10

    train, test = images(7, 17, 96), images(8, 10, 96)
    classes = bytes(range(1, 11))
    content = {
        "train_X.bin": train[:10].transpose(0, 1, 3, 2).tobytes(),
        "train_y.bin": classes,
        "unlabeled_X.bin": train[10:].transpose(0, 1, 3, 2).tobytes(),
        "test_X.bin": test.transpose(0, 1, 3, 2).tobytes(),
        "test_y.bin": classes,
        "class_names.txt": "\n".join(f"kind {n}" for n in range(10)).encode(),
    }
    packed = archive({f"{STL10.base_folder}/{name}": data for name, data in content.items()})
    monkeypatch.setattr(STL10, "url", f"{address}/{STL10.filename}")
    monkeypatch.setattr(STL10, "tgz_md5", md5(packed))
    for which in ("train_list", "test_list"):
        monkeypatch.setattr(STL10, which, [[name, md5(content[name])] for name, _ in getattr(STL10, which)])
    monkeypatch.setitem(DATASETS, "stl10", DatasetFacts(10, 10, 10, 96, extra_unlabelled=7))
    return packed, train, test
