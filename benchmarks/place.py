"""An elastic of one's own to measure: store, state and processes below one directory, real commands, nothing shared."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from orchestrator.jobs import layout
from orchestrator.jobs.bucket import job_names, load_record, submit_job
from orchestrator.jobs.events import Event, EventKind, read_events
from orchestrator.jobs.head import load_head
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import send_request
from orchestrator.spec.load import load_job
from orchestrator.store.document import random_nonce
from orchestrator.store.local import LocalStore
from tests.survival.system import role_of

DEMO = Path(__file__).parent.parent / "examples" / "digits.yaml"
BOUND_S = 120.0
LOOK_EVERY_S = 0.02


class Vain(Exception):
    """What was waited for did not come: there is nothing to measure."""


@dataclass(frozen=True)
class Place:
    """One directory, and whatever runs with its environment."""

    root: Path

    @classmethod
    @contextmanager
    def below(cls, root: Path) -> Iterator["Place"]:
        """A place that is left without a process."""
        place = cls(root)
        try:
            yield place
        finally:
            place.end_all()

    @property
    def environ(self) -> dict[str, str]:
        """That of this process, with homes of its own and the default store in them."""
        homes = {f"XDG_{kind}_HOME": str(self.root / kind.lower()) for kind in ("DATA", "STATE", "CACHE", "CONFIG")}
        return {name: value for name, value in os.environ.items() if not name.startswith("ELASTIC_")} | homes

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.root / "data" / "elastic" / "store")

    # --- doing -------------------------------------------------------------------------------------------------------

    def run(self, *arguments: str) -> float:
        """Run one command as a person would, to its end; returns how long it took."""
        start_s = time.perf_counter()
        done = subprocess.run(
            [_console_script(), *arguments],
            capture_output=True,
            text=True,
            env=self.environ,
            timeout=BOUND_S,
            check=False,
        )
        took_s = time.perf_counter() - start_s
        if done.returncode != 0:
            raise Vain(f"elastic {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return took_s

    @contextmanager
    def daemon(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A controller in the foreground, for as long as it is wanted."""
        with open(self.root / "daemon.log", "ab") as log:
            process = subprocess.Popen([_console_script(), "daemon"], stdout=log, stderr=log, env=self.environ)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=BOUND_S)

    def submit_pending(self, count: int) -> None:
        """That many more jobs, for nobody to carry out yet."""
        spec, there_are = load_job(DEMO), len(list(job_names(self.store)))
        for number in range(there_are, there_are + count):
            named = spec.model_copy(update={"name": f"job-{number:03d}"})
            submit_job(self.store, named, datetime.now(UTC), random_nonce)

    def cancel_all(self) -> None:
        """Ask for the end of every job."""
        for job in job_names(self.store):
            send_request(self.store, job, "cancel", now=datetime.now(UTC), by="benchmark", nonce=random_nonce)

    def end_all(self) -> None:
        """SIGKILL to every process of this place."""
        give_up_s = time.monotonic() + BOUND_S
        while (left := self.processes()) and time.monotonic() < give_up_s:
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=5)

    # --- seeing ------------------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Daemons, agents, launchers, ranks."""
        state, found = str(self.root / "state"), []
        for process in psutil.process_iter():
            try:
                if process.environ().get("XDG_STATE_HOME") == state and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def ranks(self) -> list[psutil.Process]:
        """The processes that train."""
        return [process for process in self.processes() if role_of(process) == "rank"]

    def agents(self) -> list[psutil.Process]:
        """The supervisors of instances."""
        return [process for process in self.processes() if _runs(process, "agent")]

    def daemons(self) -> list[psutil.Process]:
        """The controllers."""
        return [process for process in self.processes() if _runs(process, "daemon")]

    def all_over(self) -> bool:
        """Whether no job has anything left to come."""
        return all(self.record(job).phase.over for job in job_names(self.store))

    def record(self, job: str) -> JobRecord:
        return load_record(self.store, job).value

    def committed_step(self, job: str) -> int:
        head = load_head(self.store, job)
        return head.value.step if head else 0

    def resume_step(self, job: str) -> int:
        """The step that the current generation began from."""
        generation = self.record(job).generation
        return generation.resume_step if generation else 0

    def event(self, job: str, kind: EventKind, generation: int) -> Event:
        """The last event of a kind that a generation has brought about."""
        events = [e for e in read_events(self.store, job) if e.kind is kind and e.generation == generation]
        if not events:
            raise Vain(f"generation {generation} of {job} has no event {kind}")
        return events[-1]

    def run_directory(self, generation: int) -> Path | None:
        """Where a generation trains, once its agent has made it."""
        pattern = f"state/elastic/instances/*/*/run-g{generation:06d}"
        return next(iter(self.root.glob(pattern)), None)

    def reports(self, generation: int) -> list[dict[str, Any]]:
        """The progress lines of a generation so far, from its run directory."""
        directory = self.run_directory(generation)
        return read_reports(directory / "progress.jsonl") if directory else []

    def shipped_reports(self, job: str) -> list[dict[str, Any]]:
        """The progress lines of all generations, as they are in the store."""
        keys = [entry.key for entry in self.store.list(layout.progress_prefix(job))]
        found = [self.store.get(key) for key in keys]
        return _reports(b"".join(chunk.body for chunk in found if chunk))

    def first_report(self, generation: int) -> dict[str, Any]:
        """Wait for the first step of a generation."""
        until(lambda: bool(self.reports(generation)), f"the first step of generation {generation}", self.story)
        return self.reports(generation)[0]

    def story(self) -> str:
        """What there is to find out why nothing comes."""
        logs = sorted(self.root.rglob("*.log"))
        return "\n".join(f"--- {path}\n{path.read_text(errors='replace')[-1500:]}" for path in logs)


def until(
    condition: Callable[[], bool],
    what: str,
    story: Callable[[], str] = str,
    bound_s: float = BOUND_S,
    look_every_s: float = LOOK_EVERY_S,
) -> None:
    """Wait for a condition; raises Vain after the bound."""
    give_up_s = time.monotonic() + bound_s
    while not condition():
        if time.monotonic() > give_up_s:
            raise Vain(f"waited {bound_s:g} s in vain for this: {what}\n{story()}")
        time.sleep(look_every_s)


def read_reports(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a progress.jsonl that report a step."""
    try:
        return _reports(path.read_bytes())
    except FileNotFoundError:
        return []


def _reports(content: bytes) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in content.rpartition(b"\n")[0].splitlines() if line]
    return [line for line in lines if "step" in line and "note" not in line]


def _console_script() -> str:
    """The `elastic` of this Python."""
    return str(Path(sys.executable).with_name("elastic"))


def _runs(process: psutil.Process, word: str) -> bool:
    try:
        return word in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
