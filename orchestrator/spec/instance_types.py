"""EC2's GPU instance types: what each has and, as a price to fall back on, what it cost.

Ordered by GPUs, then by price: a type's name does not tell (a g5.16xlarge has one GPU, a g5.12xlarge has four). A type
that is not here can be used all the same; then its number of GPUs is not checked beforehand.
"""

import re
from dataclasses import dataclass

PRICES_AS_OF = "2026-11"
"""When prices were collected: on-demand, Linux, us-east-1. Several public tables agree on each, none is AWS's own."""

INSTANCE_TYPE_PATTERN = r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$"

RETIRED_FAMILIES = ("g2", "g3", "g3s", "p2", "p3", "p3dn")
"""Families with NVIDIA GPUs that AWS no longer has, or that today's CUDA no longer runs on."""


@dataclass(frozen=True)
class GpuType:
    """An instance type with NVIDIA GPUs."""

    name: str
    gpus: int
    gpu: str
    gpu_memory_gib: int
    """Of each GPU."""
    vcpus: int
    usd_per_hour: float


GPU_TYPES = tuple(
    GpuType(*facts)
    for facts in (
        ("g4dn.xlarge", 1, "T4", 16, 4, 0.526),
        ("g4dn.2xlarge", 1, "T4", 16, 8, 0.752),
        ("g6.xlarge", 1, "L4", 24, 4, 0.8048),
        ("g6.2xlarge", 1, "L4", 24, 8, 0.9776),
        ("g5.xlarge", 1, "A10G", 24, 4, 1.006),
        ("g4dn.4xlarge", 1, "T4", 16, 16, 1.204),
        ("g5.2xlarge", 1, "A10G", 24, 8, 1.212),
        ("g6.4xlarge", 1, "L4", 24, 16, 1.3232),
        ("g5.4xlarge", 1, "A10G", 24, 16, 1.624),
        ("g6e.xlarge", 1, "L40S", 48, 4, 1.861),
        ("g6.8xlarge", 1, "L4", 24, 32, 2.0144),
        ("g4dn.8xlarge", 1, "T4", 16, 32, 2.176),
        ("g6e.2xlarge", 1, "L40S", 48, 8, 2.242),
        ("g5.8xlarge", 1, "A10G", 24, 32, 2.448),
        ("g6e.4xlarge", 1, "L40S", 48, 16, 3.0042),
        ("g6.16xlarge", 1, "L4", 24, 64, 3.3968),
        ("g5.16xlarge", 1, "A10G", 24, 64, 4.096),
        ("g4dn.16xlarge", 1, "T4", 16, 64, 4.352),
        ("g6e.8xlarge", 1, "L40S", 48, 32, 4.5286),
        ("g6e.16xlarge", 1, "L40S", 48, 64, 7.5772),
        ("g4dn.12xlarge", 4, "T4", 16, 48, 3.912),
        ("g6.12xlarge", 4, "L4", 24, 48, 4.6016),
        ("g5.12xlarge", 4, "A10G", 24, 48, 5.672),
        ("g6.24xlarge", 4, "L4", 24, 96, 6.6752),
        ("g5.24xlarge", 4, "A10G", 24, 96, 8.144),
        ("g6e.12xlarge", 4, "L40S", 48, 48, 10.4926),
        ("g6e.24xlarge", 4, "L40S", 48, 96, 15.0656),
        ("g4dn.metal", 8, "T4", 16, 96, 7.824),
        ("g6.48xlarge", 8, "L4", 24, 192, 13.3504),
        ("g5.48xlarge", 8, "A10G", 24, 192, 16.288),
        ("p4d.24xlarge", 8, "A100", 40, 96, 21.9576),
        ("p4de.24xlarge", 8, "A100", 80, 96, 27.4471),
        ("g6e.48xlarge", 8, "L40S", 48, 192, 30.1312),
        ("p5.48xlarge", 8, "H100", 80, 192, 55.04),
        ("p5en.48xlarge", 8, "H200", 141, 192, 63.296),
    )
)

_BY_NAME = {gpu_type.name: gpu_type for gpu_type in GPU_TYPES}


def find_gpu_type(name: str) -> GpuType | None:
    """What is known of an instance type; None: nothing."""
    return _BY_NAME.get(name)


def why_no_type(name: str) -> str:
    """Why this cannot be an instance type of EC2 for training; empty: it can, as far as its name tells."""
    if re.fullmatch(INSTANCE_TYPE_PATTERN, name) is None:
        return f"EC2 has no instance type '{name}'; write one such as g6.xlarge"
    if name.partition(".")[0] in RETIRED_FAMILIES:
        return f"{name} is of a family that AWS has retired or CUDA no longer supports; g4dn, g5, g6 and g6e are not"
    return ""
