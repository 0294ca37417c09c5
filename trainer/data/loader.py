"""Worker processes that prepare things in order, and end with the run whatever happens to it."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Self, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from trainer.data.dataset import Array
from trainer.errors import TrainerError
from trainer.stop import die_with_parent

T = TypeVar("T")

MAX_AUTO_WORKERS = 8


class Loader(Generic[T]):
    """`read` of each of the parts, in their order; so many processes are up to `prefetch` parts each ahead.

    Without processes a part is read when it is asked for. `pin`: tensors come in page-locked memory, for a GPU to
    fetch by itself. Started by the main thread: the kernel ends the processes with the thread that made them.
    """

    def __init__(
        self,
        read: Callable[[Array], T],
        parts: Iterator[Array],
        *,
        workers: int,
        prefetch: int = 2,
        pin: bool = False,
    ) -> None:
        loader: DataLoader[Any] = DataLoader(
            _Reading(read),
            batch_size=None,
            sampler=_Once(parts),
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin,
            worker_init_fn=partial(_begin, os.getpid()) if workers else None,
            prefetch_factor=prefetch if workers else None,
            generator=torch.Generator(),  # else it would draw from torch's global one
            # A fork starts at once; macOS and its libraries do not bear it.
            multiprocessing_context="fork" if workers and sys.platform.startswith("linux") else None,
        )
        before = multiprocessing.active_children()
        with _child_signal_kept():
            self._items: Iterator[T] | None = iter(loader)
        self._processes: list[BaseProcess] = [c for c in multiprocessing.active_children() if c not in before]

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Raises TrainerError when a process died."""
        if self._items is None:
            raise StopIteration
        try:
            return next(self._items)
        except (RuntimeError, OSError, EOFError) as error:
            # The connection to a process breaks a moment before it is known to have ended.
            ended = multiprocessing.connection.wait([process.sentinel for process in self._processes], timeout=1.0)
            dead = [process for process in self._processes if process.sentinel in ended]
            if not dead:
                raise
            dead[0].join()
            raise TrainerError(_obituary(dead[0])) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._items = None  # the last reference: torch asks its processes to end, and waits for them
        for process in self._processes:
            if process.is_alive():
                process.kill()
            process.join()
        self._processes = []


class _Reading(TorchDataset[Any]):
    def __init__(self, read: Callable[[Array], Any]) -> None:
        self._read = read

    def __getitem__(self, part: Array) -> Any:
        return self._read(part)


class _Once:
    """Parts that come one after another, for torch a sampler."""

    def __init__(self, parts: Iterator[Array]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[Array]:
        return self._parts


def cpu_cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_share() -> int:
    """How many of the CPU cores are this rank's, when the ranks of this machine share them evenly."""
    return max(1, cpu_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def worker_count(setting: int | str) -> int:
    """How many loader processes a rank has by `loading.workers`."""
    return setting if isinstance(setting, int) else min(cpu_share(), MAX_AUTO_WORKERS)


def _begin(parent: int, _worker: int) -> None:
    """A loader process begins: it leaves signals to the rank, which still wants images while it drains."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


@contextmanager
def _child_signal_kept() -> Iterator[None]:
    """Keep SIGCHLD as it is: torch would raise wherever the loop happens to be when a process dies."""
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


def _as_it_is(item: T) -> T:
    return item


def _obituary(process: BaseProcess) -> str:
    code = process.exitcode
    how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    advice = {
        "SIGBUS": "it found no shared memory: start the container with --ipc=host or a larger --shm-size",
        "SIGKILL": "the kernel does so when memory runs out: set fewer loading.workers or a smaller loading.prefetch",
    }.get(how, "start again, and with loading.workers: 0 if it comes back")
    return f"a loader process (pid {process.pid}) ended by {how}; {advice}"
