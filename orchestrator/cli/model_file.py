"""What a model file holds, by its header: names and shapes, read without torch, which takes seconds to import."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECOND_HEAD = "fc2."
"""Of the names of a second last layer, which only training needs: torchvision's networks have none."""

_SMALL_IMAGES_KERNEL_PX = 3
_LENGTHS_AT = 26
"""Where an entry's own header says how long its name and its extra field are; the content follows them."""


class NoModel(Exception):
    """The file is no state dict of a ResNet."""


@dataclass(frozen=True)
class ModelHeader:
    """Shapes by the names of the weights."""

    shapes: dict[str, tuple[int, ...]]

    @property
    def classes(self) -> int:
        return self.shapes["fc.weight"][0]

    @property
    def has_small_image_stem(self) -> bool:
        """Whether the first layers are those for small images: 3x3 and no pooling."""
        return self.shapes["conv1.weight"][-1] == _SMALL_IMAGES_KERNEL_PX

    @property
    def has_second_head(self) -> bool:
        return any(name.startswith(SECOND_HEAD) for name in self.shapes)


def read_header(path: Path) -> ModelHeader:
    """Names and shapes of a file that torch.save has written. Raises NoModel."""
    try:
        content = _ShapeReader(io.BytesIO(_pickled(path))).load()
        header = ModelHeader({name: tuple(shape) for name, shape in content.items()})
        _ = header.classes, header.has_small_image_stem
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        struct.error,
    ) as error:
        raise NoModel(str(error)) from error
    except (KeyError, IndexError) as error:
        raise NoModel(f"no such weight: {error}") from error
    return header


def _pickled(path: Path) -> bytes:
    """The entry of the archive that names the tensors; zipfile would ask for a checksum, which torch may leave out."""
    with zipfile.ZipFile(path) as archive:
        (entry,) = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
    with path.open("rb") as file:
        file.seek(entry.header_offset + _LENGTHS_AT)
        name_bytes, extra_bytes = struct.unpack("<HH", file.read(4))
        file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        return file.read(entry.file_size)


def drop_second_head(path: Path) -> None:
    """Write the file anew without it; this needs torch."""
    import torch

    weights = torch.load(path, map_location="cpu", weights_only=True)
    torch.save({name: tensor for name, tensor in weights.items() if not name.startswith(SECOND_HEAD)}, path)


class _ShapeReader(pickle.Unpickler):
    """Reads shapes where tensors are, and calls nothing that a file could name but what is listed here."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda _storage, _offset, size, *_: size,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not expected in a model file")

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002 - the name of the bytes, which stay where they are
        return None
