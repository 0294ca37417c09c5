"""One real agent with its store, and the orders that a controller would give it."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from orchestrator.agent.run_directory import RunDirectory
from orchestrator.fleets.processes import MARKER, marked_processes
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_heartbeat, submit_job
from orchestrator.jobs.head import Head, load_head, seal
from orchestrator.jobs.instances import Assignment, Heartbeat
from orchestrator.store import document
from orchestrator.store.document import random_nonce
from orchestrator.store.local import LocalStore
from tests.agent.agent_process import INSTANCE, JOB
from tests.agent.test_launcher import FOR_EVER
from tests.support.specs import job_spec
from tests.support.waiting import wait_until

SLOWLY = {**FOR_EVER, "step_s": 0.05, "checkpoint_every": 5}
ENDS = {"steps": 20, "step_s": 0.02, "checkpoint_every": 5}


class Instance:
    """One agent, its store, and the orders that a controller would give it."""

    def __init__(self, root: Path) -> None:
        self.work_dir = root / "work"
        self.store = LocalStore(root / "store")
        submit_job(self.store, job_spec(JOB), datetime.now(UTC), random_nonce)
        self._log_path = root / "agent.log"
        self._store_path = root / "store"
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        *,
        idle_exit_s: float = 60.0,
        command: list[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        default = ["-m", "tests.agent.agent_process", str(self._store_path), str(self.work_dir), str(idle_exit_s)]
        with open(self._log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(command or default)],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, MARKER: str(self.work_dir), **(environ or {})},
                start_new_session=True,
            )

    def order(
        self,
        action: Literal["run", "drain", "stop"],
        training: Mapping[str, Any] = SLOWLY,
        *,
        epoch: int = 1,
        generation: int = 1,
        **more: Any,
    ) -> None:
        """Seal the head and write the assignment, as the controller does."""
        head = seal(self.store, JOB, epoch, generation, random_nonce).value
        key = layout.assignment_key(INSTANCE)
        resume = head.checkpoint
        present = document.load(self.store, key, Assignment)
        if present is not None and present.value.generation == generation:
            resume = present.value.resume
        wanted = Assignment(
            epoch=epoch, job=JOB, generation=generation, action=action, training=dict(training), resume=resume, **more
        )
        if present is None:
            document.create(self.store, key, wanted, random_nonce)
        else:
            document.swap(self.store, key, present, wanted, random_nonce)

    def wait(self, condition: Callable[[Heartbeat], object], what: str) -> Heartbeat:
        """Until the heartbeat says so."""
        beats: list[Heartbeat] = []

        def holds() -> bool:
            beat = load_heartbeat(self.store, INSTANCE)
            beats.extend([beat] if beat is not None and condition(beat) else [])
            return bool(beats)

        try:
            wait_until(holds, what, 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{load_heartbeat(self.store, INSTANCE)}\n{self.log()}") from error
        return beats[0]

    def wait_for_commit(self, step: int = 1) -> int:
        wait_until(lambda: self.head.step >= step, f"step {step} is committed", 60)
        return self.head.step

    def wait_for_end(self) -> int:
        assert self.process is not None
        return self.process.wait(60)

    def go(self, generation: int = 1) -> None:
        """Let a trainer that waits go on."""
        (RunDirectory.of(self.work_dir, generation).path / "go").touch()

    def processes(self) -> list[psutil.Process]:
        return marked_processes(str(self.work_dir))

    @property
    def head(self) -> Head:
        stored = load_head(self.store, JOB)
        assert stored is not None
        return stored.value

    def log(self) -> str:
        return self._log_path.read_text()

    def stream(self, prefix: str) -> str:
        found = [self.store.get(entry.key) for entry in self.store.list(prefix)]
        return "".join(each.body.decode() for each in found if each)
