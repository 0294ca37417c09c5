"""What torch.save has written is read as tensors alone; whatever else a file is, is told in few words of our own."""

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.checkpoint import _read_tensors
from trainer.errors import CheckpointRefused
from trainer.torch_file import NotTensors, read_tensors


def saved(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def refusal(content: bytes) -> str:
    with pytest.raises(NotTensors) as refused:
        read_tensors(io.BytesIO(content))
    return str(refused.value)


def other_archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "hello")
    return file.getvalue()


TENSORS = {"a": torch.arange(5_000.0)}
OLD = {"_use_new_zipfile_serialization": False}
FOR_SAFETY = "and for safety nothing but tensors is loaded"


@pytest.mark.parametrize("how", [{}, OLD], ids=["zip", "before it"])
def test_both_formats_are_read(how: dict[str, Any]) -> None:
    content = read_tensors(io.BytesIO(saved(TENSORS, **how)))
    assert isinstance(content, dict)
    assert torch.equal(content["a"], TENSORS["a"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b'{"a": 1}', "is no file of torch.save"),
        (bytes(1000), "is no file of torch.save"),
        (other_archive(), "is no file of torch.save"),
        (saved(TENSORS)[:-1], "is cut off"),
        (saved(TENSORS, **OLD)[:10_000], "is damaged or cut off (unexpected EOF, expected"),
        (saved(TENSORS, pickle_protocol=4), "is damaged, or not as torch.save writes it by default"),
        (saved({"a": Path("x")}), f"holds pathlib.PosixPath, {FOR_SAFETY}"),
        (saved({"a": np.float64(3)}), f"holds numpy._core.multiarray.scalar, {FOR_SAFETY}"),
        (saved(torch.nn.Linear(2, 2)), f"holds torch.nn.modules.linear.Linear, {FOR_SAFETY}"),
    ],
)
def test_what_else_it_is(content: bytes, says: str) -> None:
    assert refusal(content).startswith(says)


def test_a_torchscript_program(tmp_path: Path) -> None:
    with pytest.warns(Warning, match="deprecated"):
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "program.pt")  # type: ignore[no-untyped-call]
    assert refusal((tmp_path / "program.pt").read_bytes()) == f"is a TorchScript program, {FOR_SAFETY}"


def test_a_file_of_a_checkpoint_is_told_of_by_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "student.pt").write_bytes(b'{"a": 1}')
    with pytest.raises(CheckpointRefused) as refused:
        _read_tensors(tmp_path / "student.pt")
    place = tmp_path / "student.pt"
    assert str(refused.value) == f"{place}: damaged, it is no file of torch.save; resume from another checkpoint"


def test_whatever_is_damaged_is_told_in_one_short_line_without_torchs_advice(recwarn: pytest.WarningsRecorder) -> None:
    draws, whole = random.Random(7), [saved({"a": torch.zeros(3)}), saved({"a": torch.zeros(3)}, **OLD)]
    said = []
    for _ in range(400):
        content = bytearray(draws.choice(whole))
        for _ in range(draws.choice([1, 3, 20])):
            content[draws.randrange(len(content))] = draws.randrange(256)
        try:
            read_tensors(io.BytesIO(content))
        except NotTensors as reason:
            said.append(str(reason))
    assert len(said) > 100
    assert [
        reason for reason in said if not reason.isprintable() or len(reason) > 150 or "weights_only" in reason
    ] == []
    assert not recwarn.list
