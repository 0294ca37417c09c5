"""The number format of a run's forward and backward passes; weights, sums and updates are always float32."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def resolve(setting: Literal["fp32", "bf16", "auto"], device: torch.device) -> Precision:
    """What `auto` means on a device: bf16 where its arithmetic is in hardware, else fp32."""
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which networks compute."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
