"""How busy the instance is: NVML's utilisation where there is a GPU, else the share of its cores kept busy."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from statistics import fmean
from typing import Literal, Protocol

import psutil

from orchestrator.jobs.instances import Utilization
from orchestrator.spec.models import MAX_WINDOW_S

SAMPLE_EVERY_S = 1.0
LOOK_EVERY_S = 5.0
LOOK_AT_LEAST_EVERY_S = 20.0
SAMPLES_KEPT = round(MAX_WINDOW_S / SAMPLE_EVERY_S)


class Sampler(Protocol):
    """One way to see how busy the workers keep the instance."""

    source: Literal["nvml", "cpu"]

    def sample(self) -> float | None:
        """Percent since the last call; None when it cannot be told."""
        ...


class NvmlSampler:
    """Share of time in which a kernel ran, mean over the instance's GPUs."""

    source: Literal["nvml", "cpu"] = "nvml"

    def __init__(self, gpus: Sequence[int]) -> None:
        import pynvml

        pynvml.nvmlInit()
        self._nvml = pynvml
        self._devices = [pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in gpus]

    def sample(self) -> float | None:
        """None when no GPU supports the figure (under MIG) or all are lost: unknown is not idle."""
        percents = []
        for device in self._devices:
            try:
                percents.append(float(self._nvml.nvmlDeviceGetUtilizationRates(device).gpu))
            except self._nvml.NVMLError:
                continue
        return fmean(percents) if percents else None


class CpuSampler:
    """Share of the instance's cores that processes, and all below them, keep busy.

    To find those below takes a look at every process of the machine, so that is not done for each sample: between two
    looks the processes found are sampled, and what came since counts from the next look on, with all it has used. Where
    none has come or gone, the next look is the further away.
    """

    source: Literal["nvml", "cpu"] = "cpu"

    def __init__(
        self, root_pids: Callable[[], Sequence[int]], cores: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._root_pids = root_pids
        self._cores = cores
        self._monotonic = monotonic
        self._seconds: dict[int, float] = {}
        self._at = monotonic()
        self._found: list[psutil.Process] = []
        self._roots: list[int] = []
        self._look_at = self._at
        self._looks_after_s = LOOK_EVERY_S

    def sample(self) -> float | None:
        """None while there is no process, and the first time, when there is nothing to compare with.

        Also where nothing can be seen now, for want of open files say: the next sample is of all the time since.
        """
        now = self._monotonic()
        try:
            before, self._seconds = self._seconds, self._cpu_seconds(now)
        except OSError:
            return None
        elapsed_s, self._at = now - self._at, now
        if not before or not self._seconds or elapsed_s <= 0:
            return None
        used_s = sum(max(0.0, seconds - before.get(pid, 0.0)) for pid, seconds in self._seconds.items())
        return min(100.0, 100.0 * used_s / (elapsed_s * self._cores))

    def _cpu_seconds(self, now: float) -> dict[int, float]:
        """By process the CPU seconds so far."""
        roots = list(self._root_pids())
        if roots != self._roots or now >= self._look_at:
            before, self._found, self._roots = self._found, _with_all_below(roots), roots
            longer_s = min(2 * self._looks_after_s, LOOK_AT_LEAST_EVERY_S)
            self._looks_after_s = longer_s if self._found == before else LOOK_EVERY_S
            self._look_at = now + self._looks_after_s
        seconds = {}
        for process in self._found:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                self._look_at = now  # others may have come in its place
                continue
            seconds[process.pid] = times.user + times.system
        return seconds


def _with_all_below(root_pids: Sequence[int]) -> list[psutil.Process]:
    found = []
    for root_pid in root_pids:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(root_pid)
            found += [root, *root.children(recursive=True)]
    return found


def choose_sampler(gpus: Sequence[int], cores: int, root_pids: Callable[[], Sequence[int]]) -> Sampler:
    """NVML for an instance with GPUs, if the driver answers; else its cores."""
    if gpus:
        import pynvml

        try:
            return NvmlSampler(gpus)
        except pynvml.NVMLError:
            pass  # the heartbeat's source tells that it is the cores that are measured
    return CpuSampler(root_pids, cores)


class UtilizationWindow:
    """One sample a second from the first step on, the last minutes of it kept."""

    def __init__(self, sampler: Sampler, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._sampler = sampler
        self._monotonic = monotonic
        self._percents: deque[float] = deque(maxlen=SAMPLES_KEPT)
        self._count = 0
        self._next_at = monotonic()

    def restart(self) -> None:
        """Forget the samples of the workers before."""
        self._percents.clear()
        self._count = 0
        self._sampler.sample()
        self._next_at = self._monotonic() + SAMPLE_EVERY_S

    def tick(self) -> None:
        """Take a sample when it is time."""
        now = self._monotonic()
        if now < self._next_at:
            return
        self._next_at = max(self._next_at + SAMPLE_EVERY_S, now)
        percent = self._sampler.sample()
        if percent is not None:
            self._percents.append(round(percent, 1))
            self._count += 1

    def value(self) -> Utilization:
        return Utilization(source=self._sampler.source, percents=tuple(self._percents), count=self._count)
