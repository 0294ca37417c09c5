"""A whole elastic for one test: store, daemons, agents, ranks, all real processes; and ways to end them."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from orchestrator.fleets.processes import MARKER
from orchestrator.jobs.bucket import load_heartbeat, load_record
from orchestrator.jobs.events import Event, EventKind, read_events
from orchestrator.jobs.head import Head, load_head
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.jobs.record import JobRecord
from orchestrator.store import open_store
from orchestrator.store.protocol import Store

BOUND_S = 150.0
JOB = "tiny"
STEPS = 120

TRAINING: dict[str, Any] = {
    "dataset": "digits",
    "labels": 50,
    "steps": STEPS,
    "batch": 16,
    "labelled_batch": 8,
    "shards": 2,
    "precision": "fp32",
    "seed": 7,
    "evaluate_every": 1000,
    "consistency": {"weight": 5.0},
}
"""A run of ten seconds or so: long enough to be killed in, short enough to be repeated in every test."""

Role = Literal["daemon", "agent", "launcher", "rank"]


def job_yaml(**changes: Any) -> dict[str, Any]:
    """The job of these tests: one worker unless resized by hand, a checkpoint every second."""
    job: dict[str, Any] = {
        "name": JOB,
        "training": TRAINING,
        "resources": {"ladder": [{"workers": 1}, {"workers": 2}]},
        "scaling": {"window": "10m", "cooldown": "1h"},
        "checkpoint": {"every": "1s", "keep": 3, "keep_free": "1MiB"},
    }
    return {**job, **changes}


def elastic(*arguments: str, environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end."""
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=dict(environ), timeout=BOUND_S, check=False)


@dataclass
class System:
    """Everything of one test lives below `root`, or in the store."""

    root: Path
    rng: random.Random
    state: Path
    store: Store
    daemons: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @classmethod
    def at(cls, root: Path, seed: int, state: Path | None = None, store_url: str | None = None) -> "System":
        store = open_store(store_url or f"file://{root / 'store'}", os.environ)
        return cls(root=root, rng=random.Random(seed), state=state or root / "state", store=store)

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "ELASTIC_STORE": self.store.url, "XDG_STATE_HOME": str(self.state)}

    # --- doing -----------------------------------------------------------------------------------------------------

    def start_daemon(self) -> "subprocess.Popen[bytes]":
        with open(self.root / f"daemon-{len(self.daemons)}.log", "ab") as log:
            command = [sys.executable, "-m", "orchestrator.cli.main", "daemon"]
            daemon = subprocess.Popen(command, stdout=log, stderr=log, env=self.environ, start_new_session=True)
        self.daemons.append(daemon)
        return daemon

    def submit(self, *, daemon: bool = False, **changes: Any) -> None:
        """Submit the job; with `daemon` as people do, so that a controller is started where none is."""
        path = self.root / "job.yaml"
        path.write_text(json.dumps(job_yaml(**changes), indent=2))  # JSON is YAML
        self.run("submit", str(path), *([] if daemon else ["--no-daemon"]))

    def run(self, *arguments: str) -> str:
        done = elastic(*arguments, environ=self.environ)
        assert done.returncode == 0, f"elastic {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def kill(self, *roles: Role) -> None:
        """SIGKILL to every process in these roles, at once."""
        assert self.kill_those_there(*roles), f"there is nothing to kill in {roles}"

    def kill_those_there(self, *roles: Role) -> bool:
        """The same where there may be none any more; whether there was one."""
        victims = [process for role in roles for process in self.processes(role)]
        kill_all(victims)
        psutil.wait_procs(victims, timeout=10)
        return bool(victims)

    def close(self) -> None:
        """End whatever is left."""
        for daemon in self.daemons:
            daemon.kill()
            daemon.wait()
        for role in ("agent", "launcher", "rank"):
            kill_all(self.processes(role))

    # --- seeing ----------------------------------------------------------------------------------------------------

    def processes(self, role: Role) -> list[psutil.Process]:
        if role == "daemon":
            return [psutil.Process(d.pid) for d in self.daemons if d.poll() is None]
        return [process for process in processes_of_instances(self.state) if role_of(process) == role]

    def instance_processes(self) -> list[psutil.Process]:
        return [process for process in processes_of_instances(self.state) if role_of(process) is not None]

    @property
    def record(self) -> JobRecord:
        return load_record(self.store, JOB).value

    @property
    def head(self) -> Head:
        stored = load_head(self.store, JOB)
        assert stored is not None
        return stored.value

    @property
    def step(self) -> int:
        """The last step that the current generation has reported; 0 before."""
        generation = self.record.generation
        beats = [load_heartbeat(self.store, i) for i in generation.instances] if generation else []
        current = [b for b in beats if b and generation and b.generation == generation.number]
        return max((b.progress.step for b in current if b.progress), default=0)

    @property
    def committed_step(self) -> int:
        stored = load_head(self.store, JOB)
        return stored.value.step if stored else 0

    def trains(self, generation: int) -> bool:
        """Whether this generation, or one after it, has made a step, and the record tells that it trains."""
        current = self.record.generation
        told = current is not None and current.number >= generation and current.phase is GenerationPhase.TRAINING
        return told and self.step > 0

    def events(self, *kinds: EventKind) -> list[Event]:
        """Whatever the record tells of: for a moment the last events are in it alone."""
        latest = self.record.outbox
        told = {event.number: event for event in (*latest, *read_events(self.store, JOB))}
        return [event for _, event in sorted(told.items()) if not kinds or event.kind in kinds]

    def story(self) -> str:
        lines = [f"{e.at:%H:%M:%S} g{e.generation} {e.kind}: {e.message}" for e in self.events()]
        logs = [f"--- {p.name}\n{p.read_text()[-3000:]}" for p in sorted(self.root.glob("daemon-*.log"))]
        logs += [f"--- {p}\n{p.read_text()[-2000:]}" for p in sorted(self.state.rglob("agent.log"))]
        return "\n".join(lines + logs)

    # --- waiting ---------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], bool], what: str, bound_s: float = BOUND_S) -> None:
        give_up = time.monotonic() + bound_s
        while not condition():
            assert time.monotonic() < give_up, f"waited {bound_s:g} s in vain: {what}\n{self.story()}"
            time.sleep(0.05)

    def wait_for_phase(self, phase: JobPhase) -> None:
        self.wait(lambda: self.record.phase is phase or self.record.phase.over, f"the job has {phase}")
        assert self.record.phase is phase, self.story()

    def wait_for_generation(self, phase: GenerationPhase) -> None:
        def reached() -> bool:
            generation = self.record.upcoming if phase is GenerationPhase.PROVISIONING else self.record.generation
            return generation is not None and generation.phase is phase

        self.wait(reached, f"a generation is {phase}")

    def wait_for_random_step(self) -> int:
        """Wait until training is somewhere in its first two thirds, with a checkpoint behind it."""
        step = self.rng.randrange(5, STEPS * 2 // 3)
        self.wait(lambda: self.step >= step and self.committed_step > 0, f"step {step} and a checkpoint")
        return step

    def wait_until_quiet(self) -> None:
        self.wait(lambda: not self.instance_processes(), "no process of an instance is left")

    # --- results ---------------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """SHA-256 of all state at the end."""
        head = self.head
        assert head.final, self.story()
        assert head.checkpoint is not None
        found = self.store.get(f"{head.checkpoint}result.json")
        assert found is not None
        digest: str = json.loads(found.body)["digest"]
        return digest


def processes_of_instances(state: Path) -> list[psutil.Process]:
    """Every process that belongs to an instance of the fleet below this directory of state."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(MARKER, "").startswith(str(state))
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to each; one that has ended with another meanwhile is none to fail for."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def role_of(process: psutil.Process) -> Role | None:
    """What a process of an instance is; None for what has just ended, and for what ranks have started."""
    try:
        command, name = process.cmdline(), process.name()
    except psutil.NoSuchProcess:
        return None
    if name == "trainer":  # forked from its launcher, whose command it has
        return "rank"
    if "orchestrator.agent.torchrun" in command:
        return "launcher"
    if "agent" in command and "orchestrator.cli.main" in command:
        return "agent"
    return "rank" if "trainer" in command else None


def undisturbed_digest(directory: Path, training: Mapping[str, Any] = TRAINING, bound_s: float = BOUND_S) -> str:
    """What the trainer alone, never disturbed, ends with."""
    config = directory / "config.json"
    config.write_text(json.dumps(dict(training)))
    run = directory / "run"
    subprocess.run([sys.executable, "-m", "trainer", str(config), str(run)], check=True, timeout=bound_s)
    last = max((run / "checkpoints").glob("step-*"))
    digest: str = json.loads((last / "result.json").read_text())["digest"]
    return digest


def alter(system: System, checkpoint: str) -> None:
    """Turn one bit in the middle of a checkpoint's largest file, as a failing disk would."""
    path = _largest_file(system, checkpoint)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def tear(system: System, checkpoint: str) -> None:
    """Cut a checkpoint's largest file in half."""
    path = _largest_file(system, checkpoint)
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)


def _largest_file(system: System, checkpoint: str) -> Path:
    return system.root / "store" / max(system.store.list(checkpoint), key=lambda entry: entry.size).key
