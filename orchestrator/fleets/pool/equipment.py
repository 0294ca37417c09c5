"""What this machine has to give to a pool."""

import os
import platform
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from orchestrator.errors import UsageError
from orchestrator.fleets.local import GPU_DRIVER, Machine, gpu_numbers, has_gpu_driver
from orchestrator.fleets.pool.host import Equipment
from orchestrator.fleets.pool.records import Gpu
from orchestrator.fleets.pool.room import ANY, CPU
from orchestrator.jobs.instances import LOOPBACK

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*=[A-Za-z0-9_.-]+")


def equipment_of(
    *,
    name: str | None,
    cores: int | None,
    gpus: str,
    labels: Sequence[str],
    address: str | None,
    store_url: str,
    environ: Mapping[str, str],
    driver: Sequence[Path] = GPU_DRIVER,
) -> Equipment:
    """This machine, or as much of it as is said. `gpus`: 'all', or numbers such as '0,1', or '' for none.

    Raises UsageError for what it does not have.
    """
    machine = Machine.this(environ)
    is_to_show_gpus = gpus == "all" and environ.get("CUDA_VISIBLE_DEVICES") != ""
    if is_to_show_gpus and not machine.gpus and has_gpu_driver(driver):
        with _answering_driver():  # else the machine would join without its GPUs
            pass
    name = name or default_name(platform.node())
    if name in (ANY, CPU):
        raise UsageError(f"--name: a machine cannot be called '{name}', which job.yaml has for others")
    if cores is not None and cores > machine.cores:
        raise UsageError(f"--cores: {cores} are more than the {machine.cores} that this machine has")
    return Equipment(
        name=name,
        cores=cores or machine.cores,
        gpus=tuple(_gpu(index) for index in _chosen(gpus, machine.gpus)),
        labels=dict(_label(label) for label in labels),
        address=_checked(address) if address else address_towards(store_url, environ),
    )


def default_name(host_name: str) -> str:
    """The machine's own name, as far as it may stand in a key."""
    return re.sub(r"[^A-Za-z0-9]+", "-", host_name.partition(".")[0]).strip("-")[:63] or "machine"


def address_towards(store_url: str, environ: Mapping[str, str]) -> str:
    """The address by which this machine reaches the store: others that do so reach it by that, as a rule.

    A directory is reached without any. No packet is sent to find it out.
    """
    if not store_url.startswith("s3:"):
        return LOOPBACK
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"
    try:
        parts = urlsplit(endpoint)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((parts.hostname or "", parts.port or 443))
            return str(probe.getsockname()[0])
    except (OSError, ValueError):
        return LOOPBACK


def _checked(address: str) -> str:
    """An address that this machine has. Raises UsageError."""
    try:
        if IPv4Address(address).is_unspecified:
            raise UsageError(f"--address: by {address} no other machine reaches this one; name the one that they use")
        with socket.socket() as probe:
            probe.bind((address, 0))
    except AddressValueError as error:
        raise UsageError(f"--address: {address} is no IPv4 address; write one such as 192.168.0.7") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"--address: {address} is no IPv4 address of this machine ({reason})") from error
    return address


def _chosen(text: str, present: tuple[int, ...]) -> tuple[int, ...]:
    if text == "all":
        return present
    wanted = tuple(dict.fromkeys(gpu_numbers(text)))
    if missing := [gpu for gpu in wanted if gpu not in present]:
        has = f"has {', '.join(map(str, present))}" if present else "shows none"
        raise UsageError(f"--gpus: there is no GPU {missing[0]}; the driver {has}")
    return wanted


@contextmanager
def _answering_driver() -> Iterator[ModuleType]:
    """NVML. Raises UsageError where a driver is there and does not answer."""
    import pynvml

    try:
        pynvml.nvmlInit()
        pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        raise UsageError(
            f"--gpus: this machine has an NVIDIA driver, which does not answer ({error}): see what nvidia-smi says, or "
            "join as a machine without GPUs by --gpus ''"
        ) from error
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    with _answering_driver() as nvml:
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = nvml.nvmlDeviceGetName(handle)
            memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
            return Gpu(index=index, name=name.decode() if isinstance(name, bytes) else name, memory_bytes=memory)
        except nvml.NVMLError as error:
            raise UsageError(f"--gpus: GPU {index} does not say what it is ({error}); leave it out") from error


def _label(text: str) -> tuple[str, str]:
    if not _LABEL.fullmatch(text):
        raise UsageError(f"--label: {text!r} is no label: write one such as site=lab")
    name, _, value = text.partition("=")
    return name, value
