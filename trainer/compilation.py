"""`compile: true`: the networks as fused kernels where a compiler is there, and as they are where it is not."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.network import FlatNetwork, Heads
from trainer.precision import Precision
from trainer.state import TrainState
from trainer.trial import blank_images, try_pass
from trainer.world import World

_FAILURES = (
    RuntimeError,  # torch's own errors of tracing and compiling derive from it
    OSError,
    ImportError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    NotImplementedError,
    subprocess.SubprocessError,
)
"""What a compiler may fail with that is no reason not to train."""


@dataclass(frozen=True)
class Compiled:
    """What to call instead of a network's heads, the heads themselves if it failed; and why it did."""

    heads: Heads
    is_compiled: bool
    failure: str = ""


def compile_heads(network: FlatNetwork, images: Tensor, precision: Precision, *, exact: bool) -> Compiled:
    """Compile a network for images of this shape and try it on them; the network is as before then.

    exact: choose no kernel by timing it, since the choice may change sums. Raises torch.OutOfMemoryError.
    """
    plain: Heads = network.model.heads
    try:
        compiled: Heads = torch.compile(plain, dynamic=False, options={"deterministic": True} if exact else None)
        try_pass(network, compiled, images, precision)
    except torch.OutOfMemoryError:
        raise
    except _FAILURES as error:
        return Compiled(plain, is_compiled=False, failure=_reason(error))
    return Compiled(compiled, is_compiled=True)


def compile_networks(
    state: TrainState,
    images_per_pass: int,
    image_px: int,
    precision: Precision,
    world: World,
    clock: Callable[[], float],
    *,
    exact: bool,
) -> tuple[bool, str]:
    """Let student and teacher compute by compiled heads if that works on every rank, else on none.

    Returns whether they do, and what to tell about it.
    """
    start_s = clock()
    failure = ""
    compiled: list[tuple[FlatNetwork, Heads]] = []
    for network in (state.student, state.teacher):
        if network is not None and not failure:
            images = blank_images(network, images_per_pass, image_px)
            result = compile_heads(network, images, precision, exact=exact)
            compiled.append((network, result.heads))
            failure = result.failure
    failures = {rank: reason for rank, reason in enumerate(world.gather(failure)) if reason}
    spent_s = clock() - start_s
    if failures:
        rank, reason = next(iter(failures.items()))
        where = f" on rank {rank}" if world.size > 1 else ""
        return False, f"compile: not compiled, training goes on without ({reason}{where}, found after {spent_s:.0f} s)"
    for network, heads in compiled:
        network.heads = heads
    return True, f"compiled in {spent_s:.0f} s"


def _reason(error: BaseException) -> str:
    """The error in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
