"""A file of a checkpoint holds what was written, whatever its length, and tells when it could not be."""

import errno
import os
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO, cast

import psutil
import pytest
import torch

from trainer.durable_file import PIECE_BYTES, DurableFile
from trainer.priority import Do, SpareTime, at_once

Replace = Callable[[Callable[[int, memoryview], int]], None]
SIZES = [0, 1, 4096, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 4097]


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def write(path: Path, data: bytes, do: Do = at_once, part_bytes: int = 10**9) -> DurableFile:
    with DurableFile(path, do) as file:
        for begin in range(0, len(data), part_bytes):
            part = data[begin : begin + part_bytes]
            assert file.write(memoryview(part)) == len(part)
    return file


@pytest.mark.parametrize("do", [at_once, SpareTime(lambda: 0.0)])
@pytest.mark.parametrize("size", SIZES)
def test_it_holds_what_was_written(tmp_path: Path, size: int, do: Do) -> None:
    data = content(size)
    file = write(tmp_path / "file", data, do)
    assert (tmp_path / "file").read_bytes() == data
    assert file.sha256 == sha256(data).hexdigest()


@pytest.mark.parametrize("part_bytes", [7_919, 700_001, PIECE_BYTES])
def test_in_parts_too(tmp_path: Path, part_bytes: int) -> None:
    data = content(2 * PIECE_BYTES + 333)
    file = write(tmp_path / "file", data, part_bytes=part_bytes)
    assert (tmp_path / "file").read_bytes() == data
    assert file.sha256 == sha256(data).hexdigest()


def test_writing_nothing_is_nothing(tmp_path: Path) -> None:
    with DurableFile(tmp_path / "file") as file:
        assert file.write(b"") == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_it_takes_no_other_files_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("another's")
    with pytest.raises(FileExistsError):
        DurableFile(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "another's"


def test_what_broke_off_raises_and_leaves_no_file_open(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "file")
    with pytest.raises(TypeError), file:
        file.write(None)  # type: ignore[arg-type]
    assert "file" not in {Path(each.path).name for each in psutil.Process().open_files()}


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Replace:
    """Put a function in the place of os.write."""
    return lambda instead: monkeypatch.setattr("trainer.durable_file.os.write", instead)


def test_a_write_that_stops_halfway_is_gone_on_with(tmp_path: Path, writes: Replace) -> None:
    real = os.write
    writes(lambda descriptor, data: real(descriptor, data[: max(1, len(data) // 3)]))
    data = content(2 * PIECE_BYTES + 5)
    assert write(tmp_path / "file", data).sha256 == sha256(data).hexdigest()
    assert (tmp_path / "file").read_bytes() == data


def test_what_a_write_met_is_told_whatever_torch_makes_of_it(tmp_path: Path, writes: Replace) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writes(full)
    with pytest.raises(OSError, match="No space left on device"), DurableFile(tmp_path / "file") as file:
        torch.save({"weights": torch.zeros(2 * PIECE_BYTES)}, cast(IO[bytes], file))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EINVAL])
def test_a_disk_that_fails_is_told_of(tmp_path: Path, error: int, writes: Replace) -> None:
    def failing(descriptor: int, data: memoryview) -> int:
        raise OSError(error, os.strerror(error))

    writes(failing)
    with pytest.raises(OSError, match=os.strerror(error)):
        write(tmp_path / "file", content(PIECE_BYTES + 1))
