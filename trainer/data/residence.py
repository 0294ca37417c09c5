"""Whether a data set's images go to the device's memory or are streamed to it."""

import os
from pathlib import Path

import psutil
import torch

from trainer.config import Loading
from trainer.data.dataset import Array, Pixels, ResidentPixels
from trainer.data.sources import ArraySource, StreamedPixels
from trainer.errors import ConfigError

LARGEST_SHARE = 0.5
"""Of the free memory, for `loading.images: auto`."""

CGROUP = Path("/sys/fs/cgroup")


def fits_on_device(setting: Loading, size_bytes: int, device: torch.device) -> bool:
    """Whether decoded images of this size are to be in the device's memory; raises ConfigError when they cannot be."""
    if setting.images == "stream":
        return False
    free_bytes = _free_bytes(device)
    if setting.images == "auto":
        return size_bytes <= LARGEST_SHARE * free_bytes
    if size_bytes > free_bytes:
        raise ConfigError(
            f"loading.images: the decoded images take {size_bytes / 1e9:.1f} GB and {device} has "
            f"{free_bytes / 1e9:.1f} GB free for this rank; set it to stream or auto"
        )
    return True


def placed(array: Array, device: torch.device, *, resident: bool) -> Pixels:
    """Decoded images where they are to be; a CPU's stay mapped, and all ranks share the memory."""
    if not resident:
        return StreamedPixels(ArraySource(array), device)
    return ResidentPixels(torch.from_numpy(array).to(device))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _available_bytes() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _available_bytes() -> int:
    """Of the machine, or of the container where that has less; files that the kernel merely caches do not count."""
    machine: int = psutil.virtual_memory().available
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such limit, or another system
        return machine
    return max(0, min(machine, limit - used + int(statistics.get("inactive_file", 0))))
