"""Which GPUs an instance gives its workers, where nobody has said which."""

from collections.abc import Mapping
from pathlib import Path

from orchestrator.fleets.local import Machine

PCI_DEVICES = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_DISPLAY_CLASSES = ("0x0300", "0x0302")
"""VGA and 3D controllers, in PCI's numbers."""


def gpus_for(workers: int, environ: Mapping[str, str], pci_devices: Path = PCI_DEVICES) -> tuple[int, ...]:
    """One for each worker, of those that the driver shows; none on a machine without GPUs.

    A machine with GPUs that no driver shows gives them all the same: a trainer that cannot use what it was given says
    so, and does not crawl on the CPU for the price of a GPU.
    """
    shown = Machine.this(environ).gpus
    return (shown or tuple(range(_present(pci_devices))))[:workers]


def _present(pci_devices: Path) -> int:
    """How many GPUs of NVIDIA's the machine's bus has."""
    return sum(
        _read(device / "vendor") == _NVIDIA and _read(device / "class").startswith(_DISPLAY_CLASSES)
        for device in pci_devices.glob("*")
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
