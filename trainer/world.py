"""The ranks of a run, and what they exchange."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from trainer.errors import ConfigError, TrainerError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among the ranks of the run; a process alone is a world of one and needs no process group."""

    rank: int
    size: int
    device: torch.device
    leads_machine: bool = field(default=False, kw_only=True)
    """Whether this is the first rank of a machine that has a run directory of its own."""

    @property
    def is_leader(self) -> bool:
        """Whether this rank writes checkpoints and all that is worth keeping: there is one that does."""
        return self.rank == 0

    @property
    def reports(self) -> bool:
        """Whether this rank writes lines of progress, if only how far it is: one on each machine does."""
        return self.is_leader or self.leads_machine

    def shards(self, count: int) -> range:
        """The contiguous logical shards of this rank; raises ConfigError when they cannot be shared out evenly."""
        if count % self.size:
            fit = min((n for n in range(1, count + 1) if count % n == 0), key=lambda n: (abs(n - self.size), n))
            raise ConfigError(f"{self.size} ranks cannot share {count} shards evenly; start {fit}, or set shards")
        each = count // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def require_agreement(self, facts: Mapping[str, Any]) -> None:
        """Raise ConfigError unless all ranks state the same facts: otherwise they would train apart without a word."""
        stated = self.gather(dict(facts))
        for name, value in facts.items():
            others = {rank: other[name] for rank, other in enumerate(stated) if other[name] != value}
            if others:
                rank, other = next(iter(others.items()))
                raise ConfigError(f"the ranks disagree on {name}: {value} on rank {self.rank}, {other} on rank {rank}")

    def gather(self, mine: T) -> list[T]:
        """What every rank gives, by rank."""
        if self.size == 1:
            return [mine]
        given: list[Any] = [None] * self.size
        with contact():
            dist.all_gather_object(given, mine)
        return given

    def take_from_leader(self, tensor: Tensor) -> None:
        """Overwrite a tensor by the leading rank's."""
        if self.size > 1:
            with contact():
                dist.broadcast(tensor, src=0)

    def sum_counts(self, counts: Tensor) -> Tensor:
        """Add int64 tensors of all ranks, in place; integers are exact in any order."""
        if self.size > 1:
            with contact():
                dist.all_reduce(counts)
        return counts

    def wait_for_all(self) -> None:
        """Return when all ranks are here."""
        if self.size > 1:
            with contact():
                dist.barrier()

    def leave(self) -> None:
        """End the process group."""
        if self.size > 1:
            dist.destroy_process_group()


def join_world(environ: Mapping[str, str]) -> World:
    """The world that torchrun's environment variables describe; without them this process alone.

    ELASTIC_RENDEZVOUS says where the ranks meet if not at torchrun's MASTER_ADDR: file:///path for ranks of one
    machine, so that none of them listens for the others. ELASTIC_REQUIRE_CUDA=1 says that GPUs were given to them, so
    that a CPU in their place is a ConfigError and not a run that is a hundred times slower, with other bits.
    ELASTIC_RUN_DIR_PER_MACHINE=1 says that the machines of the run share no directory, so that each reports in its own.
    """
    size, rank = int(environ.get("WORLD_SIZE", "1")), int(environ.get("RANK", "0"))
    device = _device(environ)
    if size > 1:
        with contact():
            # A launcher can name a file to meet at, so that no port is opened; else torchrun's variables.
            store, _, _ = next(rendezvous(environ.get("ELASTIC_RENDEZVOUS", "env://"), rank, size))
            # torchrun has one store for all its attempts, which still tells the addresses of ranks that are gone.
            attempt = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = dist.PrefixStore(f"attempt-{attempt}", store)  # type: ignore[attr-defined]
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=store,
                rank=rank,
                world_size=size,
                device_id=device if device.type == "cuda" else None,
            )
    apart = environ.get("ELASTIC_RUN_DIR_PER_MACHINE") == "1" and environ.get("LOCAL_RANK", "0") == "0"
    return World(rank, size, device, leads_machine=apart)


def _device(environ: Mapping[str, str]) -> torch.device:
    local_rank, local_size = int(environ.get("LOCAL_RANK", "0")), int(environ.get("LOCAL_WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        if environ.get("ELASTIC_REQUIRE_CUDA") == "1":
            gpus = environ.get("CUDA_VISIBLE_DEVICES", "all")
            raise ConfigError(
                f"this run was given GPUs (CUDA_VISIBLE_DEVICES: {gpus}), but torch {torch.__version__} finds no CUDA; "
                "see whether nvidia-smi shows them, and install a torch that is built for this driver"
            )
        return torch.device("cpu")
    if local_size > torch.cuda.device_count():
        raise ConfigError(f"{local_size} ranks on a machine with {torch.cuda.device_count()} GPUs; start one a GPU")
    torch.cuda.set_device(local_rank)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    return torch.device("cuda", local_rank)


@contextmanager
def contact() -> Iterator[None]:
    """Turn the failures of a process group into a sentence: as a rule another rank died, and its error tells why."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # the latter: no address to meet at
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise lost_contact(reason) from error


def lost_contact(reason: str) -> TrainerError:
    """What to tell when another rank is not there any more."""
    return TrainerError(f"lost contact with the other ranks, look for the first error among them ({reason})")
