"""Starting an agent: take the instance's name for this process alone, then supervise."""

import contextlib
import fcntl
import os
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import platformdirs

from orchestrator.agent.equipment import Place
from orchestrator.agent.launcher import TRAINER, Program
from orchestrator.agent.machine import Machine
from orchestrator.agent.supervisor import Supervisor
from orchestrator.agent.watchdog import watch
from orchestrator.errors import ElasticError
from orchestrator.fleets.local import PROCESS_FILE
from orchestrator.fleets.processes import MARKER, write_identity
from orchestrator.store.document import random_nonce
from orchestrator.store.owner import this_process
from orchestrator.store.protocol import Store


def run_agent(
    store: Store,
    *,
    instance: str,
    job: str,
    workers: int,
    cores: int,
    gpus: tuple[int, ...],
    work_dir: Path,
    idle_exit_s: float,
    allowance_s: float | None = None,
    image_cache: Path | None = None,
    program: Program = TRAINER,
    prompt_store: Store | None = None,
) -> int:
    """Run the agent of one instance to its end. SIGTERM and SIGINT drain.

    `prompt_store`: the same store, but one that gives up within seconds, for what is asked again and again anyway.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    with open(work_dir / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log(f"another agent is instance {instance} already: nothing to do")
            return 0
        write_identity(work_dir / PROCESS_FILE, this_process(instance))
        image_cache = image_cache or platformdirs.user_cache_path("elastic") / "images"
        place = Place(instance, job, workers, cores, gpus, idle_exit_s, allowance_s=allowance_s)
        machine = Machine(place, work_dir, image_cache, os.environ, program)
        supervisor = Supervisor(store, place, machine, random_nonce, _log, prompt_store=prompt_store)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: supervisor.leave(signal.Signals(received).name))
        watch(supervisor.overdue, os.environ.get(MARKER), _log)
        supervisor.run()
    return 0


def end_with(run: Callable[[], int]) -> NoReturn:
    """Run an agent, then end this process at once: the interpreter would wait for threads, and a store's may hang."""
    code = 1
    try:
        code = run()
    except ElasticError as error:
        _log(str(error))
        code = error.exit_code
    except BaseException:  # noqa: BLE001 - whatever it is, it goes into the log, and nothing of this process goes on
        _log("the agent has ended by a fault of its own")
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _log(message: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {message}", file=sys.stderr, flush=True)
