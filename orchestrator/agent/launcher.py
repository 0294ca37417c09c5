"""The workers of one generation, as the agent holds them: a warm torchrun process and the ranks below it."""

import ipaddress
import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator.agent import attached
from orchestrator.agent.equipment import Run
from orchestrator.agent.exits import describe, failure_of_ranks, last_line, well_ended
from orchestrator.agent.run_directory import LocalFile, RunDirectory
from orchestrator.fleets.local import has_gpu_driver
from orchestrator.fleets.processes import is_running, marked_processes
from orchestrator.jobs.instances import Assignment, TrainerExit
from orchestrator.spec.names import looks_secret

LAUNCHER_MARKER = "ELASTIC_LAUNCHER"
"""Environment variable that launcher and ranks, and what they start, carry: the launcher's log, unique on the machine.

It is there from the launcher's start on: a rank that is forked keeps, for whoever looks from outside, the variables
with which its launcher was started.
"""


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What workers inherit: no credentials, and not where the store is, so neither is printed or kept by accident.

    This shuts nobody out. On EC2 a worker is a process of the instance, and who asks the metadata service there gets
    the instance role's credentials: what that role may do is what bounds a trainer.
    """
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("AWS_") and name != "ELASTIC_STORE" and not looks_secret(name)
    }


@dataclass(frozen=True)
class Program:
    """What each rank runs, with the run directory's paths to be filled in."""

    arguments: tuple[str, ...]
    executable: str | None = None
    """None: Python, with elastic's own trainer in it. Another is a person's own, which knows nothing of elastic."""
    working_dir: str | None = None
    """Where it works; None: wherever it is started."""
    package: str | None = None
    """A package that Python runs with these arguments; ranks may be forked, as `orchestrator.agent.torchrun` tells."""

    @classmethod
    def of(cls, assignment: Assignment, own: "Program") -> "Program":
        """The program that an assignment names; `own`, if it names none."""
        given = assignment.program
        return own if given is None else cls(given.command[1:], given.command[0], given.working_dir)

    def filled(self, run: RunDirectory) -> list[str]:
        """What the executable is started with for one run."""
        package = [] if self.package is None else ["-u", "-m", self.package]
        return [*package, *self.filled_arguments(run)]

    def filled_arguments(self, run: RunDirectory) -> list[str]:
        """The arguments for one run."""
        return [self._fill(argument, run) for argument in self.arguments]

    @staticmethod
    def _fill(argument: str, run: RunDirectory) -> str:
        """An argument may have other braces in it, as JSON does: they stay."""
        paths = {"{config}": str(run.config), "{run_dir}": str(run.path)}
        return re.sub(r"\{config\}|\{run_dir\}", lambda found: paths[found[0]], argument)


TRAINER = Program(("{config}", "{run_dir}"), package="trainer")


class TorchrunWorkers:
    """torchrun and its ranks. Made warm; `start` once; then `poll` until it tells how they ended."""

    def __init__(self, log: Path, environ: Mapping[str, str], program: Program = TRAINER) -> None:
        self.log_path = log.absolute()
        self._program = program
        self._asked: set[int] = set()
        self._run: RunDirectory | None = None
        self._first_rank = 0
        self._warm_mark = log.with_suffix(".warm")
        self._warm_mark.unlink(missing_ok=True)
        warm = [] if program.package is None else [program.package]
        with open(log, "ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.agent.torchrun", str(self._warm_mark), *warm],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env={**worker_environment(environ), LAUNCHER_MARKER: str(self.log_path)},
            )

    @property
    def warm(self) -> bool:
        """Whether the launcher can start ranks at once; also true of one that has died, for starting it tells why."""
        return self._warm_mark.exists() or self._process.poll() is not None

    @property
    def pid(self) -> int | None:
        """The launcher's process, while it lives."""
        return self._process.pid if self._process.poll() is None else None

    @property
    def pids(self) -> tuple[int, ...]:
        """The launcher's process, while it lives: the ranks are below it."""
        return () if (pid := self.pid) is None else (pid,)

    @property
    def activity(self) -> str:
        """Getting warm takes seconds: nothing to tell."""
        return ""

    @property
    def image(self) -> str:
        """None: the ranks are processes."""
        return ""

    @property
    def log(self) -> LocalFile:
        """What the launcher itself prints."""
        return LocalFile(self.log_path)

    def start(self, run: Run, assignment: Assignment, *, own_address: str, gpus: tuple[int, ...]) -> None:
        """Tell the warm launcher what to run."""
        self._run = run = RunDirectory(run.path)
        self._first_rank = assignment.node_rank * assignment.workers
        program = Program.of(assignment, self._program)
        forked = program.package if may_be_forked(assignment, gpus) else None
        order = {
            "forked": forked is not None,
            "program": [forked, *program.filled_arguments(run)] if forked else self._python_arguments(run, program),
            "run_id": f"{assignment.job}-g{assignment.generation}",
            "nodes": assignment.nodes,
            "node_rank": assignment.node_rank,
            "workers": assignment.workers,
            "rendezvous_file": str(run.path / "rendezvous-launcher"),
            "rendezvous_endpoint": f"{assignment.master_address}:{assignment.master_port}",
            "local_address": own_address,
            "log_dir": str(run.logs),
            "result": str(run.path / "exit.json"),
            "env": rank_environment(run, assignment, own_address, gpus),
        }
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.close()
        except BrokenPipeError:
            return  # it has died already: poll tells

    def _python_arguments(self, run: RunDirectory, program: Program) -> list[str]:
        """What this Python is started with as each rank."""
        if program.executable is None:
            return program.filled(run)
        tied = ["-I", "-S", attached.__file__, str(self._process.pid), program.working_dir or ""]
        # torchrun puts the rank's numbers where an argument has ${local_rank} and the like, and takes $$ for $.
        return [each.replace("$", "$$") for each in (*tied, program.executable, *program.filled(run))]

    def ask_to_drain(self, *, again: bool = False) -> None:
        """SIGTERM to the ranks themselves: torchrun would turn their exit code into its own.

        To be called until they end: a rank may not be there yet. Each is asked once, or once more with `again`, since
        a signal is lost on a process that is just becoming a rank. What ranks have started is their own affair.
        """
        for rank in self._ranks():
            if again or rank.pid not in self._asked:
                self._asked.add(rank.pid)
                _send(rank, signal.SIGTERM)

    def dump_stacks(self) -> None:
        """SIGUSR1 to the ranks: they print the stacks of their threads into their logs."""
        for rank in self._ranks():
            _send(rank, signal.SIGUSR1)

    def kill(self) -> None:
        """End launcher and ranks at once, and all that ranks have started, also if their parents are gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._kill_marked()

    def gone(self) -> bool:
        """After `kill`: whether nothing is left of them; what has been started meanwhile is killed too."""
        return self._process.poll() is not None and not self._kill_marked()

    def _kill_marked(self) -> bool:
        """Kill what carries this launcher's marker; False: there was nothing."""
        return kill_marked(str(self.log_path), LAUNCHER_MARKER)

    def poll(self, step: int | None) -> TrainerExit | None:
        """How they ended, or None while they run."""
        code = self._process.poll()
        if code is None:
            return None
        return well_ended(code, step) or self._failure(code, step)

    def _ranks(self) -> list[psutil.Process]:
        """None also where they cannot be seen now, for want of open files say: they are asked for again."""
        try:
            return psutil.Process(self._process.pid).children()
        except (psutil.NoSuchProcess, OSError):
            return []

    def _failure(self, code: int, step: int | None) -> TrainerExit:
        """By what the ranks said, or else the launcher."""
        codes: dict[int, int] = {}
        if self._run is not None:
            try:
                told = json.loads((self._run.path / "exit.json").read_text())["exit_codes"]
                codes = {int(rank): rank_code for rank, rank_code in told.items()}
            except (OSError, ValueError, KeyError):
                codes = {}
            failure = failure_of_ranks(codes, self._run, first_rank=self._first_rank, code=code, step=step)
            if failure is not None:
                return failure
        why = f"the launcher {describe(code)}: {last_line([self.log_path])}"
        return TrainerExit(outcome="failed", code=code, message=why, step=step)


def may_be_forked(assignment: Assignment, gpus: tuple[int, ...]) -> bool:
    """Whether ranks can be forked from a process that has imported torch.

    Not where there are GPUs: a fork of a process that has so much as counted them cannot use them. And not with
    variables of the job's own, many of which count only when a process starts or imports: PYTHONPATH, MALLOC_ARENA_MAX.
    """
    has_gpus = bool(gpus) or has_gpu_driver()
    return sys.platform.startswith("linux") and not has_gpus and not assignment.env


def kill_marked(marker: str, variable: str) -> bool:
    """Kill every process that carries a marker in that variable of its environment; False: there was none.

    Where they cannot be seen now, for want of open files say, there may be some.
    """
    try:
        alive = [each for each in marked_processes(marker, variable) if is_running(each)]
    except OSError:
        return True
    for process in alive:
        _send(process, signal.SIGKILL)
    return bool(alive)


def rank_environment(
    run: RunDirectory, assignment: Assignment, own_address: str, gpus: tuple[int, ...]
) -> dict[str, str]:
    """What the ranks of a generation are told beside their config."""
    given = assignment.program
    environ = {
        **({"PYTHONUNBUFFERED": "1"} if given is not None else {}),  # or what it prints is shown late
        **assignment.env,
        "ELASTIC_RUN_DIR": str(run.path),
        "ELASTIC_CONFIG": str(run.config),
        "ELASTIC_CHECKPOINT_EVERY_S": f"{assignment.checkpoint_every_s:g}",
        "ELASTIC_KEEP_FREE_BYTES": str(assignment.keep_free_bytes),
        "ELASTIC_KEEP_LOCAL": "1000000",  # the agent removes what it has committed
        "ELASTIC_DIE_WITH_PARENT": "1",
        "ELASTIC_TENSORBOARD": "0",  # it would go with the run directory; `elastic fetch --tensorboard` writes it
        "OMP_NUM_THREADS": str(given.threads if given is not None else assignment.training.get("threads", 1)),
    }
    if gpus:
        environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # NVML counts so; CUDA by itself puts the fastest first
        environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
        environ["ELASTIC_REQUIRE_CUDA"] = "1"  # a trainer that cannot use them says so, and does not crawl on the CPU
    if assignment.nodes > 1:
        environ["ELASTIC_RUN_DIR_PER_MACHINE"] = "1"  # the first rank here says how far they are, in this directory
    else:
        # Ranks of one node meet over a file, so that nothing listens for them.
        environ["ELASTIC_RENDEZVOUS"] = f"file://{run.path}/rendezvous-ranks"
    if assignment.nodes == 1 or ipaddress.ip_address(assignment.master_address).is_loopback:
        environ["GLOO_SOCKET_IFNAME"] = environ["NCCL_SOCKET_IFNAME"] = "lo"
    elif (interface := interface_with(own_address)) is not None:  # else each would take whichever comes first
        environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    return environ


def interface_with(address: str) -> str | None:
    """The network interface of this machine that has an address."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return str(name)
    return None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
