"""A copy of a state, taken between two steps, from which a checkpoint is written while training goes on."""

from dataclasses import replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from trainer.network import StateDict
from trainer.priority import Do, at_once
from trainer.state import Counters, TrainState, state_files


class Copies(Protocol):
    """Copies of named tensors, in memory that is allocated once and filled again."""

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Copy the tensors as they are now, before the training loop goes on."""
        ...

    def on_cpu(self) -> dict[str, Tensor]:
        """The copies, in the CPU's memory; may wait for the device, so not for the training loop."""
        ...


class CpuCopies:
    """From the CPU's memory to the CPU's memory."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._copies = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}

    def take(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._copies[name].copy_(tensor)

    def on_cpu(self) -> dict[str, Tensor]:
        return self._copies


class CudaCopies:
    """Within the GPU's memory first, in a fraction of a millisecond; from there to the CPU beside the training."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._staged = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
        self._copies = {
            name: torch.empty_like(tensor, device="cpu", pin_memory=True) for name, tensor in tensors.items()
        }
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._taken = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._fetched = True

    def take(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._staged[name].copy_(tensor)
        self._fetched = False
        self._taken.record()  # on the stream that computes: what is copied is the state between two steps

    def on_cpu(self) -> dict[str, Tensor]:
        if self._fetched:
            return self._copies
        self._stream.wait_event(self._taken)
        with torch.cuda.stream(self._stream):
            for name, staged in self._staged.items():
                self._copies[name].copy_(staged, non_blocking=True)
        self._stream.synchronize()
        self._fetched = True
        return self._copies


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.sum()))


class Snapshot:
    """A state as it was between two steps, so that nothing in it is half of one step and half of the next."""

    def __init__(self, state: TrainState) -> None:
        self._state = state
        tensors = state.tensors()
        self.size_bytes = sum(tensor.nbytes for tensor in tensors.values())
        """How much memory it takes, and about how much disk."""
        on_gpu = state.student.weights.device.type == "cuda"
        self._copies: Copies = CudaCopies(tensors) if on_gpu else CpuCopies(tensors)
        self.counters = Counters(step=-1)

    def take(self) -> None:
        """Copy the state as it is now; the training loop waits only for this."""
        self._copies.take(self._state.tensors())
        self.counters = replace(self._state.counters)

    @property
    def step(self) -> int:
        """The step that it was taken after."""
        return self.counters.step

    def is_finite(self, do: Do = at_once) -> bool:
        """Whether every number in it is one: a state with a NaN is not worth going back to.

        do: how the pieces are done.
        """
        return all(do(partial(_is_finite, copy)) for copy in do(self._copies.on_cpu).values())

    def files(self) -> dict[str, StateDict]:
        """The tensors of each file of a checkpoint, as views of the copy."""
        return state_files(self._state, self._copies.on_cpu(), self.counters.updates)
