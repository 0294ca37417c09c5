"""All that a run consists of: with the config it determines every later step."""

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from trainer.config import Plan, TrainingConfig
from trainer.exchange import whole_pages
from trainer.model import build_model
from trainer.network import FlatNetwork, StateDict
from trainer.optim import Updater
from trainer.precision import START_LOSS_SCALE
from trainer.pretrained import Origin, load_weights


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
    """Student, teacher (none when supervised), what the optimiser remembers, counters; changed in place by `step`.

    origin: the weights that it started from, if they were given.
    """

    student: FlatNetwork
    teacher: FlatNetwork | None
    updater: Updater
    counters: Counters
    origin: Origin | None = None

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

    @property
    def size_of_weights(self) -> int:
        """How many numbers `keep_weights_in` takes."""
        copies = 1 + (self.teacher is not None) + len(self.updater.slots)
        return copies * self._size_of_one

    @property
    def _size_of_one(self) -> int:
        return whole_pages(self.student.weights.numel())

    def keep_weights_in(self, memory: Tensor, *, fill: bool) -> None:
        """Have the weights, and what the optimiser remembers of each, in this memory; `fill`: as they are now.

        Without it, they are what is there, or will be: another rank's, in memory that both have in common.
        """
        places = iter(torch.split(memory, self._size_of_one))

        def moved(flat: Tensor) -> Tensor:
            place = next(places)[: flat.numel()]
            return place.copy_(flat) if fill else place

        for network in (self.student, self.teacher):
            if network is not None:
                network.use_weights(moved(network.weights))
        for name, slot in self.updater.slots.items():
            self.updater.slots[name] = moved(slot)


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


def build_state(
    config: TrainingConfig, plan: Plan, device: torch.device, *, channels_last: bool = False, to_restore: bool = False
) -> TrainState:
    """The state before the first step: teacher and student start from the same weights.

    to_restore: a checkpoint follows, so that the weights to start from are not needed. Raises ConfigError.
    """
    second_head = config.consistency.second_head and config.method == "mean_teacher"
    model = build_model(config.model, plan.classes, plan.image_px, config.seed, second_head=second_head)
    origin = None if to_restore else load_weights(config.model, model, config.data_dir)
    teacher = None
    if config.method == "mean_teacher":
        teacher = FlatNetwork(copy.deepcopy(model).requires_grad_(False), device, channels_last=channels_last)
    student = FlatNetwork(model, device, channels_last=channels_last)
    updater = Updater(config.optimizer, student.weights, student.named_weights)
    return TrainState(student, teacher, updater, Counters(), origin)


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
