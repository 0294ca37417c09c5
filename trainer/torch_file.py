"""Reading what torch.save has written, from whoever: tensors alone, and what else a file is in words of our own.

torch's own messages are several sentences, and advise to run the code that may be in such a file.
"""

import pickle
import re
import warnings
import zipfile
from typing import BinaryIO

import torch

from trainer.errors import printable

_ZIP = b"PK\x03\x04"
_MAGIC_BEFORE_ZIP = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # what torch.save began a file with until 1.6
_LONGEST_REASON = 100


class NotTensors(Exception):
    """The content is not of tensors alone; the message goes on from the file's name: 'is cut off'."""


def read_tensors(file: BinaryIO) -> object:
    """What the file holds: tensors, and plain values and containers of them. Raises NotTensors and OSError."""
    try:
        _require_torch_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats: what matters of it is in the error
            content: object = torch.load(file, map_location="cpu", weights_only=True)
    except (NotTensors, OSError):
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise NotTensors("is damaged, or not as torch.save writes it by default") from None
        raise NotTensors(f"holds {named[1]}, and for safety nothing but tensors is loaded") from None
    except RuntimeError as error:
        raise NotTensors(f"is damaged or cut off ({_first_sentence(str(error))})") from None
    except Exception:  # noqa: BLE001 -- of a damaged file the readers raise anything, and say little by it
        raise NotTensors("is damaged or cut off") from None
    return content


def _require_torch_file(file: BinaryIO) -> None:
    """Raise NotTensors unless it looks like a whole file of torch.save; then the file is at its start."""
    head = file.read(64)
    if not head:
        raise NotTensors("is empty")
    if head.startswith(_ZIP):
        try:
            with zipfile.ZipFile(file) as archive:
                names = {name.rpartition("/")[2] for name in archive.namelist()}
        except zipfile.BadZipFile:
            raise NotTensors("is cut off") from None
        if "constants.pkl" in names:
            raise NotTensors("is a TorchScript program, and for safety nothing but tensors is loaded")
        if "data.pkl" not in names:
            raise NotTensors("is no file of torch.save")
    elif _MAGIC_BEFORE_ZIP not in head:
        raise NotTensors("is no file of torch.save")
    file.seek(0)


def _first_sentence(text: str) -> str:
    """Of an error of torch's, what a person can use: short, and a terminal obeys nothing of it."""
    said = re.sub(r"\x1b\[[\d;]*m|^\s*\[[^\]]*\]\s*\.?\s*", "", text).partition("\n")[0].partition(". ")[0]
    return printable(said)[:_LONGEST_REASON]
