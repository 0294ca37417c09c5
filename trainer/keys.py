"""Random generators by key.

What is drawn is a function of (seed, purpose, position), never of how many ranks there are.
"""

import hashlib
import struct
from enum import IntEnum

import torch


class Purpose(IntEnum):
    """What a generator draws; the numbers are part of every key, so they never change."""

    LABELLED_ORDER = 1
    UNLABELLED_ORDER = 2
    STUDENT_VIEW = 3
    TEACHER_VIEW = 4


def generator(seed: int, purpose: Purpose, *position: int, device: torch.device | None = None) -> torch.Generator:
    """A fresh generator for one purpose at one position, such as (step, shard); distinct keys give unrelated draws,
    but for one pair in four thousand million: a CPU's generator takes 32 bits of its seed.
    """
    key = struct.pack(f"<{2 + len(position)}Q", seed, purpose, *position)
    number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
    return torch.Generator(device or torch.device("cpu")).manual_seed(number)
