"""How busy the instance is, by real processes and by the real NVML bindings on a driver that is made up."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import psutil
import pytest

from orchestrator.agent import sampling
from orchestrator.agent.sampling import (
    LOOK_EVERY_S,
    SAMPLE_EVERY_S,
    SAMPLES_KEPT,
    CpuSampler,
    UtilizationWindow,
    choose_sampler,
)
from tests.support.clock import Clock
from tests.support.waiting import wait_until

SPIN = "import sys; print('on', flush=True)\nwhile True: pass"
SPIN_IN_A_CHILD = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.DEVNULL)\n"
    "print('on', flush=True)\nsys.stdin.read()\nchild.kill()\nchild.wait()"
)
SPIN_IN_CHILDREN = (
    "import subprocess, sys\n"
    "print('on', flush=True)\n"
    "for _ in sys.stdin:\n"
    "    child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.DEVNULL)\n"
    "    sys.stdin.readline()\n"
    "    child.kill()\n"
    "    child.wait()\n"
)
"""One begins with each odd line and ends with the next."""
SLEEP = "import sys; print('on', flush=True); sys.stdin.read()"


def running(code: str, *arguments: str) -> Iterator[int]:
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    yield process.pid
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.communicate()


@pytest.fixture
def busy() -> Iterator[int]:
    """A process that keeps a core as busy as the machine lets it."""
    yield from running(SPIN)


@pytest.fixture
def busy_below() -> Iterator[int]:
    """A process that sleeps and whose child keeps a core busy."""
    yield from running(SPIN_IN_A_CHILD, SPIN)


@pytest.fixture
def idle() -> Iterator[int]:
    """A process that waits."""
    yield from running(SLEEP)


def cpu_seconds(pid: int) -> float:
    """What the kernel has counted for one process: fields 14 and 15 of its stat, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(sampler: CpuSampler, pid: int, cores: int) -> tuple[float, float, float]:
    """A sample over the time in which a process has had half a second of CPU, and between what it should be: percent.

    On an idle machine that is 100 % of one core and 50 % of two; on one whose cores are wanted by others, less. Whoever
    samples may have to wait for a core too: so it is looked at before and after each sample.
    """

    def look() -> tuple[float, float]:
        return time.monotonic(), cpu_seconds(pid)

    first = look()
    sampler.sample()
    second = look()
    wait_until(lambda: cpu_seconds(pid) - second[1] >= 0.5, "the process gets its half second")
    third = look()
    sample = sampler.sample()
    fourth = look()
    assert sample is not None
    least = (third[1] - second[1]) / (fourth[0] - first[0])
    most = (fourth[1] - first[1]) / (third[0] - second[0])
    return sample, 100 * least / cores, 100 * most / cores


# --- cores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_a_busy_process_is_so_much_of_the_cores_that_it_was_given(busy: int, cores: int) -> None:
    sample, least, most = compare(CpuSampler(lambda: [busy], cores), busy, cores)
    assert least - 8 <= sample <= most + 8


def test_what_is_below_the_process_counts(busy_below: int) -> None:
    (child,) = psutil.Process(busy_below).children()
    sample, least, most = compare(CpuSampler(lambda: [busy_below], 1), child.pid, 1)
    assert least - 8 <= sample <= most + 8


def test_those_below_are_looked_for_now_and_then_and_when_one_of_them_has_ended() -> None:
    clock = Clock()
    command = [sys.executable, "-c", SPIN_IN_CHILDREN, SPIN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "on\n"
        tree = psutil.Process(parent.pid)
        sampler = CpuSampler(lambda: [parent.pid], 1, clock)

        def sample_after(seconds: float) -> float:
            clock.now_s += seconds
            return sampler.sample() or 0.0

        def start_and_wait() -> None:
            parent.stdin.write("\n")  # type: ignore[union-attr]
            wait_until(tree.children, "a child comes")
            wait_until(lambda: cpu_seconds(tree.children()[0].pid) >= 0.5, "it gets its half second")

        sample_after(0.0)
        start_and_wait()
        assert sample_after(1.0) < 5, "not known yet"
        assert sample_after(LOOK_EVERY_S - 1.0) > 9, "half a second of five, and what it has used since"
        parent.stdin.write("\n")
        wait_until(lambda: not tree.children(), "it has ended")
        start_and_wait()
        sample_after(0.5)
        assert sample_after(0.5) > 9, "looked for as its brother is gone"
        parent.stdin.write("\n")


def test_the_longer_none_has_come_or_gone_the_rarer_they_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looked_at_s, found = Clock(), list[float](), [psutil.Process()]

    def find(_roots: Sequence[int]) -> list[psutil.Process]:
        looked_at_s.append(clock.now_s)
        return list(found)

    monkeypatch.setattr(sampling, "_with_all_below", find)
    sampler = CpuSampler(lambda: [1], 1, clock)
    begin_s = clock.now_s
    for _ in range(60):
        sampler.sample()
        clock.now_s += 1.0
    found.append(psutil.Process(1))
    for _ in range(20):
        sampler.sample()
        clock.now_s += 1.0
    assert [at_s - begin_s for at_s in looked_at_s] == [0, 5, 15, 35, 55, 75]
    for _ in range(10):
        sampler.sample()
        clock.now_s += 1.0
    assert looked_at_s[-1] - begin_s == 80, "one has come, and others may follow"


def test_a_process_that_waits_is_idle_however_busy_another_is(idle: int, busy: int) -> None:
    sampler = CpuSampler(lambda: [idle], 1)
    sample, others, _ = compare(sampler, busy, 1)
    assert sample < 5 < others


def test_without_a_process_nothing_can_be_told(busy: int) -> None:
    pids: list[int] = []
    sampler = CpuSampler(lambda: pids, 1)
    assert sampler.sample() is None
    pids.append(busy)
    assert sampler.sample() is None, "there is nothing to compare with"
    wait_until(lambda: cpu_seconds(busy) > 0.05, "it works", 30)
    assert sampler.sample() is not None
    pids[0] = 2**22 + 1  # no Linux has so many
    assert sampler.sample() is None


# --- GPUs -------------------------------------------------------------------------------------------------------------

SAMPLE = """
import json, os, sys
from orchestrator.agent.sampling import choose_sampler
from orchestrator.fleets.local import Machine
gpus = json.loads(sys.argv[1])
sampler = choose_sampler(gpus, 2, lambda: ())
samples = []
for state in json.loads(sys.argv[2]):
    open(sys.argv[3], "w").write(" ".join(state))
    samples.append(sampler.sample())
print(json.dumps({"source": sampler.source, "samples": samples, "gpus": Machine.this(os.environ).gpus}))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a `libnvidia-ml.so.1` that gives what a state file says."""
    directory = tmp_path_factory.mktemp("driver")
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None
    source, library = Path(__file__).with_name("fake_nvml.c"), directory / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True, timeout=60)
    return directory


def sampled(driver: Path, state: Path, gpus: list[int], states: list[list[str]]) -> dict[str, object]:
    """What an agent on a machine with this driver sees, one sample a state."""
    state.write_text(" ".join(states[0]))
    done = subprocess.run(
        [sys.executable, "-c", SAMPLE, json.dumps(gpus), json.dumps(states), str(state)],
        env={**os.environ, "LD_LIBRARY_PATH": str(driver), "FAKE_NVML_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, object] = json.loads(done.stdout)
    return seen


@pytest.mark.requires("gcc")
def test_gpus_are_sampled_by_nvml_and_averaged(driver: Path, tmp_path: Path) -> None:
    seen = sampled(driver, tmp_path / "state", [0, 1], [["80", "40"], ["100", "100"], ["0", "0"]])
    assert seen == {"source": "nvml", "samples": [60.0, 100.0, 0.0], "gpus": [0, 1]}


@pytest.mark.requires("gcc")
def test_only_the_instances_own_gpus_count(driver: Path, tmp_path: Path) -> None:
    assert sampled(driver, tmp_path / "state", [1], [["80", "40", "7"]])["samples"] == [40.0]


@pytest.mark.requires("gcc")
@pytest.mark.parametrize(("visible", "gpus"), [("1", [1]), ("1,0", [1, 0]), ("", []), ("1,-1,0", [1]), ("7", [])])
def test_only_the_gpus_that_a_person_leaves_visible_are_given_out(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, gpus: list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert sampled(driver, tmp_path / "state", [0], [["80", "40"]])["gpus"] == gpus


@pytest.mark.requires("gcc")
def test_what_a_gpu_cannot_tell_is_unknown_and_not_idle(driver: Path, tmp_path: Path) -> None:
    states = [["unsupported", "unsupported"], ["lost", "lost"], ["unsupported", "90"], ["90", "lost"]]
    seen = sampled(driver, tmp_path / "state", [0, 1], states)
    assert seen["samples"] == [None, None, 90.0, 90.0]


@pytest.mark.requires("gcc")
def test_a_gpu_that_is_not_there_leaves_the_cores_to_be_measured(driver: Path, tmp_path: Path) -> None:
    assert sampled(driver, tmp_path / "state", [3], [["80"]])["source"] == "cpu"


def test_without_a_driver_the_cores_are_measured_and_it_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAMPLE, "[0]", '[["80"]]', str(tmp_path / "state")],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    if json.loads(done.stdout)["gpus"]:
        pytest.skip("this machine has a GPU")
    assert json.loads(done.stdout)["source"] == "cpu"


def test_without_gpus_the_cores_are_measured() -> None:
    assert choose_sampler([], 1, lambda: ()).source == "cpu"


def test_a_real_gpu_tells_how_busy_it_is() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU is here")
    sampler = choose_sampler([0], 1, lambda: ())
    assert sampler.source == "nvml"
    matrix = torch.randn(8192, 8192, device="cuda")
    wait_until(lambda: (matrix @ matrix).sum().item() and (sampler.sample() or 0) > 50, "it is seen at work", 20)


# --- the window -------------------------------------------------------------------------------------------------------


class Scripted:
    """A sampler that gives what it is told to."""

    source: Literal["nvml", "cpu"] = "cpu"

    def __init__(self, *samples: float | None) -> None:
        self.samples = list(samples)

    def sample(self) -> float | None:
        return self.samples.pop(0) if self.samples else 50.0


class Time:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_sample_a_second_from_the_restart_on() -> None:
    time, sampler = Time(), Scripted(99.0, 10.0, 20.0)
    window = UtilizationWindow(sampler, time)
    window.restart()  # takes the first one to compare with, and forgets it
    for _ in range(25):
        window.tick()
        time.now_s += 0.1
    assert (window.value().percents, window.value().count) == ((10.0, 20.0), 2)
    window.restart()
    assert (window.value().percents, window.value().count) == ((), 0)


def test_what_could_not_be_told_is_not_counted() -> None:
    time = Time()
    window = UtilizationWindow(Scripted(0.0, 10.0, None, 30.0), time)
    window.restart()
    for _ in range(3):
        time.now_s += SAMPLE_EVERY_S
        window.tick()
    assert (window.value().percents, window.value().count) == ((10.0, 30.0), 2)


def test_samples_are_counted_though_only_the_last_minutes_are_kept() -> None:
    time = Time()
    window = UtilizationWindow(Scripted(), time)
    for _ in range(SAMPLES_KEPT + 5):
        window.tick()
        time.now_s += SAMPLE_EVERY_S
    assert (len(window.value().percents), window.value().count) == (SAMPLES_KEPT, SAMPLES_KEPT + 5)


def test_after_a_standstill_it_does_not_catch_up_with_samples_of_nothing() -> None:
    time = Time()
    window = UtilizationWindow(Scripted(), time)
    window.tick()
    time.now_s += 60
    for _ in range(5):
        window.tick()
        time.now_s += 0.1
    assert window.value().count <= 3
