"""One number a sample, from a generator on the images' device."""

import torch
from torch import Tensor


def within(n: int, bound: float, draws: torch.Generator) -> Tensor:
    """float32 [n], uniform in -bound..bound."""
    return (torch.rand(n, generator=draws, device=draws.device) * 2 - 1) * bound


def between(n: int, low: float, high: float, draws: torch.Generator) -> Tensor:
    """float32 [n], uniform in low..high."""
    return torch.rand(n, generator=draws, device=draws.device) * (high - low) + low


def whole(n: int, low: int, high: int, draws: torch.Generator) -> Tensor:
    """int64 [n], uniform in low..high, both included."""
    return torch.randint(low, high + 1, (n,), generator=draws, device=draws.device)
