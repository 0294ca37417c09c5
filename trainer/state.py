"""All that a run consists of: with the config it determines every later step."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from trainer.config import Plan, TrainingConfig
from trainer.model import build_model
from trainer.network import FlatNetwork, StateDict
from trainer.optim import Updater
from trainer.precision import START_LOSS_SCALE


@dataclass
class Counters:
    """The numbers among the state; a checkpoint's meta.json has them.

    step: batches seen. updates: how many of them moved the weights; all, but for those that fp16 could not hold.
    lr_factor: what roll-backs have left of the learning rate.
    """

    step: int = 0
    updates: int = 0
    loss_scale: float = START_LOSS_SCALE
    good_steps: int = 0
    lr_factor: float = 1.0
    rollbacks: int = 0


@dataclass
class TrainState:
    """Student, teacher (none when supervised), what the optimiser remembers, counters; changed in place by `step`."""

    student: FlatNetwork
    teacher: FlatNetwork | None
    updater: Updater
    counters: Counters

    @property
    def step(self) -> int:
        """How many batches it has seen."""
        return self.counters.step

    def tensors(self) -> dict[str, Tensor]:
        """The flat tensors that make up the state, by a fixed name, in a fixed order."""
        parts = {"student.weights": self.student.weights, "student.running": self.student.running}
        if self.teacher is not None:
            parts |= {"teacher.weights": self.teacher.weights, "teacher.running": self.teacher.running}
        return parts | {f"optimizer.{name}": slot for name, slot in self.updater.slots.items()}


class Snapshot:
    """A copy of a state in CPU memory that is allocated once and filled again for each checkpoint.

    It is taken between two steps, so that nothing in it is half of one step and half of the next.
    """

    def __init__(self, state: TrainState) -> None:
        self._state = state
        self._copies = {name: torch.empty_like(t, device="cpu") for name, t in state.tensors().items()}
        self.counters = Counters(step=-1)

    def take(self) -> None:
        """Copy the state as it is now."""
        for name, tensor in self._state.tensors().items():
            self._copies[name].copy_(tensor)
        self.counters = Counters(**asdict(self._state.counters))

    @property
    def step(self) -> int:
        """The step that it was taken after."""
        return self.counters.step

    @property
    def size_bytes(self) -> int:
        """How much memory it takes, and about how much disk."""
        return sum(copy.nbytes for copy in self._copies.values())

    def is_finite(self) -> bool:
        """Whether every number in it is one: a state with a NaN is not worth going back to."""
        return all(bool(torch.isfinite(copy.sum())) for copy in self._copies.values())

    def files(self) -> dict[str, StateDict]:
        """The tensors of each file of a checkpoint, as views of the copy."""
        return state_files(self._state, self._copies, self.counters.updates)


def state_files(state: TrainState, tensors: dict[str, Tensor], updates: int) -> dict[str, StateDict]:
    """How flat tensors, named as by `TrainState.tensors`, are laid out in the files of a checkpoint."""
    student, teacher = state.student, state.teacher
    files = {"student.pt": student.state_dict(tensors["student.weights"], tensors["student.running"], updates)}
    if teacher is not None:
        files["teacher.pt"] = teacher.state_dict(tensors["teacher.weights"], tensors["teacher.running"], updates)
    files["optimizer.pt"] = {
        f"{slot}/{name}": view
        for slot in state.updater.slots
        for name, view in student.named_weights(tensors[f"optimizer.{slot}"]).items()
    }
    return files


def build_state(config: TrainingConfig, plan: Plan, device: torch.device, *, channels_last: bool = False) -> TrainState:
    """The state before the first step: teacher and student start from the same weights."""

    def network() -> FlatNetwork:
        second_head = config.consistency.second_head and config.method == "mean_teacher"
        model = build_model(config.model, plan.classes, plan.image_px, config.seed, second_head=second_head)
        return FlatNetwork(model, device, channels_last=channels_last)

    student = network()
    teacher = network() if config.method == "mean_teacher" else None
    if teacher is not None:
        teacher.model.requires_grad_(False)
    return TrainState(student, teacher, Updater(config.optimizer, student.weights, student.named_weights), Counters())


def restore(state: TrainState, files: dict[str, StateDict], counters: Counters) -> None:
    """Set a state from the tensors of a checkpoint's files."""
    for name, network in (("student.pt", state.student), ("teacher.pt", state.teacher)):
        if network is not None:
            network.set_weights(network.weights, files[name])
            network.set_running(files[name])
    for slot, flat in state.updater.slots.items():
        remembered = {name: files["optimizer.pt"][f"{slot}/{name}"] for name in state.student.named_weights(flat)}
        state.student.set_weights(flat, remembered)
    state.counters = counters


def digest(files: dict[str, StateDict], counters: Counters) -> str:
    """SHA-256 over counters, and names, types, shapes and bytes of all tensors, in their fixed order."""
    sha = hashlib.sha256(repr(sorted(asdict(counters).items())).encode())
    for name, tensor in _all_tensors(files):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _all_tensors(files: dict[str, StateDict]) -> Iterator[tuple[str, Tensor]]:
    for file, tensors in files.items():
        for name, tensor in tensors.items():
            yield f"{file}/{name}", tensor
