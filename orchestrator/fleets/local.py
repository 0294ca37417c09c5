"""The local fleet: an instance is an agent process, in a session of its own, with so many cores or GPUs.

It outlives the controller that started it. A later controller adopts it by what is in its work directory:
`process.json` holds the agent's pid and start time, written by the agent under a lock, so that two agents of one name
cannot both run.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs

from orchestrator.errors import UsageError
from orchestrator.fleets.engine import EngineError, remove_instance
from orchestrator.fleets.processes import (
    MARKER,
    age_s,
    end_marked_processes,
    is_alive,
    is_running,
    marked_processes,
    read_identity,
)
from orchestrator.fleets.protocol import InstanceState, LaunchError, LaunchRequest, Offer, Sighting
from orchestrator.jobs.bucket import store_identity
from orchestrator.spec.models import Resources
from orchestrator.store.document import Nonce
from orchestrator.store.owner import owner_alive
from orchestrator.store.protocol import Store

PROCESS_FILE = "process.json"
REQUEST_FILE = "request.json"
START_GRACE_S = 3.0
"""From the order of an instance to its agent's process; the agent may then take its time until it says who it is."""
SWEEP_AFTER_S = 24 * 3600.0


GPU_DRIVER = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"))
"""What there is of a driver for GPUs also where it does not work."""


def has_gpu_driver(driver: Sequence[Path] = GPU_DRIVER) -> bool:
    """Whether there is anything of a driver for GPUs."""
    return any(path.exists() for path in driver)


@dataclass(frozen=True)
class Machine:
    """What this machine has to give."""

    cores: int
    gpus: tuple[int, ...] = ()
    """As NVML numbers them."""

    @classmethod
    def this(cls, environ: Mapping[str, str]) -> "Machine":
        """The cores that this process may use, and the GPUs that NVML sees and CUDA_VISIBLE_DEVICES leaves."""
        return cls(cores=len(os.sched_getaffinity(0)), gpus=_visible_gpus(environ.get("CUDA_VISIBLE_DEVICES")))


@dataclass
class LocalFleet:
    """Instances as processes on this machine, for one store. May be used by several threads at once."""

    store_url: str
    root: Path
    machine: Machine
    environ: Mapping[str, str]
    idle_exit_s: float = 120.0
    address: str = ""
    """Where agents on other machines reach those here; empty: there are none elsewhere."""
    _children: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Finding room and taking it is one step: else two would be given the same."""

    @property
    def lag_s(self) -> float:
        """The process table shows everything at once."""
        return 0.0

    def launch(self, request: LaunchRequest) -> None:
        """Start an agent, once: a name whose work directory exists was launched before."""
        self._launch(request, None)

    def launch_on(self, request: LaunchRequest, gpus: Sequence[int]) -> None:
        """The same on these GPUs: whoever asks for them has found the room."""
        self._launch(request, list(gpus))

    def _launch(self, request: LaunchRequest, gpus: list[int] | None) -> None:
        directory = self._directory(request.instance)
        with self._lock:
            if (directory / REQUEST_FILE).exists():
                return
            gpus = self._place(request) if gpus is None else gpus
            try:
                self._start(request, directory, gpus)
            except OSError as error:  # a full disk, too many processes: it may pass, and nothing was started
                with contextlib.suppress(OSError):
                    (directory / REQUEST_FILE).unlink(missing_ok=True)
                message = f"an agent cannot be started here: {error}"
                if not os.access(self.root, os.W_OK):
                    message += "; set XDG_STATE_HOME of the controller to a directory that can be written"
                raise LaunchError(message, kind="capacity") from error

    def _start(self, request: LaunchRequest, directory: Path, gpus: list[int]) -> None:
        """Write down what the instance is given, then start its agent."""
        cores = request.workers * request.cores_per_worker
        directory.mkdir(parents=True, exist_ok=True)
        _Order(
            job=request.job,
            generation=request.generation,
            cores=0 if self.machine.gpus else cores,
            gpus=tuple(gpus),
            image=request.image,
        ).write(directory)
        command = [sys.executable, "-m", "orchestrator.cli.main", "--store", self.store_url, "agent"]
        command += ["--instance", request.instance, "--job", request.job, "--workers", str(request.workers)]
        command += ["--cores", str(cores), "--gpus", ",".join(map(str, gpus)), "--work-dir", str(directory)]
        command += ["--idle-exit", f"{self.idle_exit_s:g}s"]
        if request.allowance_s is not None:
            command += ["--allowance", f"{request.allowance_s:.0f}s"]
        if request.image is not None:
            command += ["--image", request.image]
        if self.address:
            command += ["--address", self.address]
        environ = {**self.environ, MARKER: str(directory)}
        with open(directory / "agent.log", "ab") as log:
            self._children[request.instance] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                start_new_session=True,
                close_fds=True,
            )

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        """What the work directories and the process table say."""
        self._reap()
        return {instance: seen for instance in instances if (seen := self._seen(instance)) is not None}

    def drain(self, instance: str) -> None:
        """Have the agent checkpoint, commit and end; one that has not said yet who it is has nothing to commit."""
        agent = read_identity(self._directory(instance) / PROCESS_FILE)
        if agent is None:
            self.terminate(instance)
        elif is_alive(agent):
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.kill(agent.pid, signal.SIGTERM)

    def terminate(self, instance: str) -> None:
        """End the agent, its workers, and workers that lost their agent; then remove the run directories."""
        directory = self._directory(instance)
        if not directory.exists():
            return
        identity = read_identity(directory / PROCESS_FILE)
        child = self._children.get(instance)
        if (identity and is_alive(identity)) or (child and child.poll() is None) or marked_processes(str(directory)):
            end_marked_processes(str(directory), grace_s=0)
        remove_containers_of(directory, self.environ)
        self._reap()
        _remove_runs(directory)

    def is_clear(self, instance: str) -> bool:
        """Whether no process of an instance lives here, whatever became of its agent."""
        return not any(is_running(process) for process in marked_processes(str(self._directory(instance))))

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:  # noqa: ARG002
        """One's own machine, which costs nothing by the hour."""
        return (Offer(instance_type, "", "on_demand", 0.0),)

    def sweep(self) -> None:
        """Remove the work directories of instances that ended long ago; others may sweep at the same time."""
        with contextlib.suppress(OSError):
            for directory in list(self.root.iterdir()):
                with contextlib.suppress(OSError):
                    if self._ended_long_ago(directory):
                        remove_containers_of(directory, self.environ)
                        shutil.rmtree(directory, ignore_errors=True)

    def _ended_long_ago(self, directory: Path) -> bool:
        """An agent that may live on another machine, with the same home, counts as alive while it changes a file."""
        agent = read_identity(directory / PROCESS_FILE)
        elsewhere = agent is not None and owner_alive(agent) is None
        changed_at_s = max(path.stat().st_mtime for path in (directory, *(directory.rglob("*") if elsewhere else ())))
        old = time.time() - changed_at_s > SWEEP_AFTER_S
        return old and not self._alive(directory.name) and not marked_processes(str(directory))

    def _directory(self, instance: str) -> Path:
        return self.root / instance

    def _seen(self, instance: str) -> Sighting | None:
        agent = read_identity(self._directory(instance) / PROCESS_FILE)
        if agent is not None:
            return Sighting(InstanceState.RUNNING, age_s(agent)) if is_alive(agent) else Sighting(InstanceState.GONE)
        state = self._state_before_agent(instance)
        return None if state is None else Sighting(state)

    def _state_before_agent(self, instance: str) -> InstanceState | None:
        """Of an instance whose agent has not said yet who it is."""
        directory = self._directory(instance)
        if not directory.exists():
            return None
        child = self._children.get(instance)
        if child is not None:
            return InstanceState.STARTING if child.poll() is None else InstanceState.GONE
        try:
            age_s = time.time() - (directory / REQUEST_FILE).stat().st_mtime
        except FileNotFoundError:
            return None
        # Who launched it may have died before there was a process: then there is nothing to wait for.
        is_starting = age_s < START_GRACE_S or marked_processes(str(directory))
        return InstanceState.STARTING if is_starting else InstanceState.GONE

    def _place(self, request: LaunchRequest) -> list[int]:
        """The GPUs for an instance, checked against what others hold. Raises LaunchError.

        What the same job's other generations hold does not count: they end before this one starts.
        """
        others = self._orders_beside(request)
        if self.machine.gpus:
            taken = {gpu for order in others for gpu in order.gpus}
            free = [gpu for gpu in self.machine.gpus if gpu not in taken]
            _check_room("GPUs", request.workers, len(self.machine.gpus), len(free), others)
            return free[: request.workers]
        cores = request.workers * request.cores_per_worker
        free_cores = self.machine.cores - sum(order.cores for order in others)
        _check_room("CPU cores", cores, self.machine.cores, free_cores, others)
        return []

    def _orders_beside(self, request: LaunchRequest) -> "list[_Order]":
        orders = (
            _Order.read(path.parent) for path in self.root.glob(f"*/{REQUEST_FILE}") if self._alive(path.parent.name)
        )
        mine = (request.job, request.generation)
        return [o for o in orders if o is not None and (o.job != request.job or (o.job, o.generation) == mine)]

    def _alive(self, instance: str) -> bool:
        seen = self._seen(instance)
        return seen is not None and seen.state in (InstanceState.STARTING, InstanceState.RUNNING)

    def _reap(self) -> None:
        """Wait for agents of ours that have ended, so that none stays a zombie."""
        with self._lock:
            for instance, child in list(self._children.items()):
                if child.poll() is not None:
                    self._children.pop(instance, None)


@dataclass(frozen=True)
class _Order:
    """What an instance was given, kept in its work directory."""

    job: str
    generation: int
    cores: int
    gpus: tuple[int, ...]
    image: str | None = None

    def write(self, directory: Path) -> None:
        (directory / REQUEST_FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, directory: Path) -> "_Order | None":
        try:
            given = json.loads((directory / REQUEST_FILE).read_text())
            return cls(given["job"], given["generation"], given["cores"], tuple(given["gpus"]), given.get("image"))
        except (FileNotFoundError, ValueError, KeyError):
            return None


def remove_containers_of(directory: Path, environ: Mapping[str, str]) -> None:
    """Remove what is left of an instance's containers. An engine that is away is left to their guard."""
    order = _Order.read(directory)
    if order is not None and order.image is not None:
        with contextlib.suppress(EngineError):
            remove_instance(environ, str(directory))


def work_directories(identity: str) -> Path:
    """Where the instances of a store have their work directories on this machine."""
    return Path(platformdirs.user_state_dir("elastic")) / "instances" / identity


def open_local_fleet(store: Store, environ: Mapping[str, str], nonce: Nonce) -> LocalFleet:
    """The fleet of this machine for one store, its old work directories swept.

    It writes nothing before a job wants an instance here: a controller of other fleets may have no place to write to.
    """
    root = work_directories(store_identity(store, nonce))
    machine = Machine.this(environ)
    for other in root.parent.glob("*/"):  # stores that are gone have left theirs
        LocalFleet(store.url, other, machine, environ).sweep()
    return LocalFleet(store.url, root, machine, environ)


def _check_room(what: str, wanted: int, total: int, free: int, others: "list[_Order]") -> None:
    """Raises LaunchError when `wanted` is more than there is: for ever, or while other jobs run."""
    if wanted > total:
        raise LaunchError(f"{wanted} {what} are wanted and this machine has {total}", kind="fatal")
    if wanted > free:
        free = max(0, free)  # another job that moves holds both its sizes for a moment
        jobs = ", ".join(sorted({order.job for order in others}))
        raise LaunchError(
            f"{wanted} {what} are wanted and {free} of {total} are free (in use by {jobs})", kind="capacity"
        )


def gpu_numbers(text: str) -> tuple[int, ...]:
    """The GPUs that `--gpus` names, as in '0,1'. Raises UsageError."""
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise UsageError(f"--gpus: {text!r} is neither all nor a list of GPU numbers such as 0,1") from None


def _visible_gpus(visible: str | None) -> tuple[int, ...]:
    """NVML's numbers of the GPUs that `visible` (CUDA_VISIBLE_DEVICES; None: all) names; none without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        every = range(pynvml.nvmlDeviceGetCount())
        if visible is None:
            return tuple(every)
        named: list[int] = []
        for name in (part.strip() for part in visible.split(",")):
            if name.isdigit():
                gpu = int(name)
            elif name.startswith("GPU-"):
                gpu = pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(name))
            else:
                break  # CUDA too ignores an invalid entry and all after it
            if gpu not in every:
                break
            named.append(gpu)
        return tuple(named)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _remove_runs(directory: Path) -> None:
    """Free the disk: run directories go, the small files that tell of the instance stay until they are swept."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
