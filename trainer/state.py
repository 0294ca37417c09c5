"""All that a run consists of: with the config it determines every later step."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import DATASETS, TrainingConfig
from trainer.model import build_model
from trainer.network import FlatNetwork, StateDict


@dataclass
class TrainState:
    """Student, teacher (none when supervised), momentum and the number of steps done; changed in place by `step`."""

    student: FlatNetwork
    teacher: FlatNetwork | None
    momentum: Tensor
    step: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """The flat tensors that make up the state, by a fixed name, in a fixed order."""
        parts = {"student.weights": self.student.weights, "student.running": self.student.running}
        if self.teacher is not None:
            parts |= {"teacher.weights": self.teacher.weights, "teacher.running": self.teacher.running}
        return parts | {"optimizer.momentum": self.momentum}


class Snapshot:
    """A copy of a state in CPU memory that is allocated once and filled again for each checkpoint.

    It is taken between two steps, so that nothing in it is half of one step and half of the next.
    """

    def __init__(self, state: TrainState) -> None:
        self._state = state
        self._copies = {name: torch.empty_like(t, device="cpu") for name, t in state.tensors().items()}
        self.step = -1

    def take(self) -> None:
        """Copy the state as it is now."""
        for name, tensor in self._state.tensors().items():
            self._copies[name].copy_(tensor)
        self.step = self._state.step

    @property
    def size_bytes(self) -> int:
        """How much memory it takes, and about how much disk."""
        return sum(copy.nbytes for copy in self._copies.values())

    def files(self) -> dict[str, StateDict]:
        """The tensors of each file of a checkpoint, as views of the copy."""
        copies, step = self._copies, self.step
        student = self._state.student
        files = {"student.pt": student.state_dict(copies["student.weights"], copies["student.running"], step)}
        if self._state.teacher is not None:
            teacher = self._state.teacher
            files["teacher.pt"] = teacher.state_dict(copies["teacher.weights"], copies["teacher.running"], step)
        files["optimizer.pt"] = student.named_weights(copies["optimizer.momentum"])
        return files


def build_state(config: TrainingConfig, device: torch.device) -> TrainState:
    """The state before the first step: teacher and student start from the same weights."""
    facts = DATASETS[config.dataset]

    def network() -> FlatNetwork:
        return FlatNetwork(build_model(config.model, facts.classes, facts.image_px, config.seed), device)

    student = network()
    teacher = network() if config.method == "mean_teacher" else None
    if teacher is not None:
        teacher.model.requires_grad_(False)
    return TrainState(student, teacher, torch.zeros_like(student.weights))


def restore(state: TrainState, files: dict[str, StateDict], step: int) -> None:
    """Set a state from the tensors of a checkpoint's files."""
    for name, network in (("student.pt", state.student), ("teacher.pt", state.teacher)):
        if network is not None:
            weights, running = network.flatten(files[name])
            network.weights.copy_(weights)
            network.running.copy_(running)
    momentum = files["optimizer.pt"]
    state.momentum.copy_(torch.cat([momentum[name].flatten() for name in state.student.named_weights(state.momentum)]))
    state.step = step


def digest(files: dict[str, StateDict]) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, in their fixed order."""
    sha = hashlib.sha256()
    for name, tensor in _all_tensors(files):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _all_tensors(files: dict[str, StateDict]) -> Iterator[tuple[str, Tensor]]:
    for file, tensors in files.items():
        for name, tensor in tensors.items():
            yield f"{file}/{name}", tensor
