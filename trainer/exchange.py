"""How ranks add what they computed: the upper part of the tree whose lower part is `shards`.

Every rank gets the same bits, because all add the same pairs: neighbouring ranks first, then neighbouring pairs.

Ranks on one machine can have memory in common. What lies there need not be computed by each of them: each does its
share of the parts, and all see the whole.
"""

import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.barrier import Barrier, Outgoing, open_incoming
from trainer.world import World, contact

_PAGE = 1024
"""Numbers."""


def whole_pages(size: int) -> int:
    """As many numbers, or so many more that in common memory the next thing begins a page."""
    return -(-size // _PAGE) * _PAGE


class Exchange(ABC):
    """own: the flat tensor that this rank fills; total: where `sum` leaves the tree sum over all ranks.

    common: memory that all ranks have in common, as much as was asked for; None: there is none.
    """

    own: Tensor
    total: Tensor
    common: Tensor | None = None

    @abstractmethod
    def sum(self) -> None:
        """Add the `own` of all ranks into `total`; all ranks call it together."""

    def sum_in_parts(self, parts: Sequence[slice], then: Callable[[slice], None]) -> None:
        """Add into `total`, and do what is then to be done with each part; what follows the last one is only added.

        With common memory, each rank does its share of the parts, and has only these in its `total`; it returns when
        all parts are done.
        """
        self.sum()
        for part in parts:
            then(part)


def open_exchange(world: World, size: int, common: int = 0) -> Exchange:
    """The quickest way to add float32 tensors of `size` elements in this world; `common`: so much to have in common."""
    if world.size == 1:
        return Alone(size, world.device)
    if world.device.type == "cpu":
        shared = SharedMemory.open(world, size, common)
        if shared is not None:
            return shared
    return Messages(world, size)


class Alone(Exchange):
    """A world of one: its own is the total."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.own = self.total = torch.zeros(size, device=device)

    def sum(self) -> None:
        """Nothing to add."""


class Messages(Exchange):
    """Recursive doubling: swap the whole tensor with the neighbour, add, swap the sum with the next pair's, and so on.

    Addition commutes, so both sides of a swap hold the same bits.
    """

    def __init__(self, world: World, size: int) -> None:
        self._world = world
        self.own = self.total = torch.zeros(size, device=world.device)
        self._theirs = torch.empty_like(self.own)

    def sum(self) -> None:
        """Add in log2(ranks) swaps."""
        distance = 1
        while distance < self._world.size:
            peer = self._world.rank ^ distance
            with contact():
                swap = [dist.P2POp(dist.isend, self.own, peer), dist.P2POp(dist.irecv, self._theirs, peer)]
                for work in dist.batch_isend_irecv(swap):
                    work.wait()
            self.own.add_(self._theirs)
            distance *= 2


class SharedMemory(Exchange):
    """Ranks on one machine read each other's tensors where they are.

    The memory is anonymous (memfd): it needs no file system, is not bounded by a container's small /dev/shm, and is
    gone with its last user, however that ends.
    """

    def __init__(
        self, world: World, buffers: list[Tensor], wait_for_all: Callable[[], None], common: Tensor | None = None
    ) -> None:
        self._world, self._buffers, self._wait_for_all = world, buffers, wait_for_all
        self.own, self.common = buffers[world.rank], common
        self.total = torch.zeros_like(self.own)
        self._spares = [torch.empty_like(self.own) for _ in range(world.size.bit_length() - 2)]

    @classmethod
    def open(cls, world: World, size: int, common: int) -> "SharedMemory | None":
        """Map the buffers of all ranks; None, on every rank, if any of them cannot see those of the others.

        What they have in common follows the leading rank's buffer.
        """
        sizes = [size] * world.size
        if common:
            sizes[0] = whole_pages(size) + common
        own, outgoing = _create(sizes[world.rank]), Outgoing(world.rank, world.size)
        addresses = world.gather(_Address(_machine(), os.getpid(), own, outgoing.to_read))
        buffers: list[Tensor] | None = None
        incoming: list[int] | None = None
        if own is not None and all(address.machine == _machine() for address in addresses):
            buffers = _map_all(addresses, sizes)
            others = [(address.pid, address.pipes) for rank, address in enumerate(addresses) if rank != world.rank]
            incoming = open_incoming(world.rank, others)
        everyone_can = all(world.gather(buffers is not None and incoming is not None))
        if own is not None:
            os.close(own)  # the mapping stays
        if everyone_can and buffers is not None and incoming is not None:
            outgoing.opened()
            in_common = buffers[0][-common:] if common else None
            return cls(world, [each[:size] for each in buffers], Barrier(incoming, outgoing.to_write).wait, in_common)
        for end in incoming or ():
            os.close(end)
        outgoing.close()
        return None

    def sum(self) -> None:
        """Add all tensors in the tree's order, each rank for itself."""
        self._wait_for_all()  # everyone's own is filled
        self._add(slice(None))
        self._wait_for_all()  # everyone has read mine: it may be filled again

    def sum_in_parts(self, parts: Sequence[slice], then: Callable[[slice], None]) -> None:
        """Each rank its share, if what comes of it is in common memory."""
        if self.common is None:
            super().sum_in_parts(parts, then)
            return
        self._wait_for_all()  # everyone's own is filled, and nobody reads any more what is in common
        self._add(slice(parts[-1].stop, None))
        rank, size = self._world.rank, self._world.size
        for part in parts[len(parts) * rank // size : len(parts) * (rank + 1) // size]:
            self._add(part)
            then(part)
        self._wait_for_all()  # everyone has done its share, and has read mine

    def _add(self, part: slice) -> None:
        _add_tree([each[part] for each in self._buffers], self.total[part], [each[part] for each in self._spares])


def _add_tree(buffers: list[Tensor], out: Tensor, spares: list[Tensor]) -> None:
    if len(buffers) == 2:
        torch.add(buffers[0], buffers[1], out=out)
        return
    half = len(buffers) // 2
    _add_tree(buffers[:half], out, spares[1:])
    _add_tree(buffers[half:], spares[0], spares[1:])
    out.add_(spares[0])


@dataclass(frozen=True)
class _Address:
    """Where the others find what a rank shares: its process, and there its buffer and the pipe for each of them."""

    machine: str
    pid: int
    buffer: int | None
    pipes: dict[int, int]


def _machine() -> str:
    """What two processes must share to see each other's memory: the running kernel and the view of processes."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown {os.getpid()}"


def _create(size: int) -> int | None:
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("trainer-exchange")
        os.ftruncate(descriptor, size * 4)
    except OSError:
        return None
    return descriptor


def _map_all(addresses: list[_Address], sizes: list[int]) -> list[Tensor] | None:
    buffers = []
    for address, size in zip(addresses, sizes, strict=True):
        try:
            descriptor = os.open(f"/proc/{address.pid}/fd/{address.buffer}", os.O_RDWR)
        except OSError:  # another user, or a kernel that forbids it
            return None
        try:
            buffers.append(torch.frombuffer(mmap.mmap(descriptor, size * 4), dtype=torch.float32))
        except OSError:  # no memory for it
            return None
        finally:
            os.close(descriptor)
    return buffers
