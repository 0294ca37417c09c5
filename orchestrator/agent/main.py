"""Starting an agent: take the instance's name for this process alone, then supervise."""

import contextlib
import fcntl
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import platformdirs

from orchestrator.agent.ending import end_at_once
from orchestrator.agent.equipment import Place
from orchestrator.agent.imds import Identity, InstanceMetadata, Interruption, MetadataError
from orchestrator.agent.interruptions import InterruptionWatch
from orchestrator.agent.launcher import TRAINER, Program
from orchestrator.agent.machine import Machine
from orchestrator.agent.supervisor import Supervisor
from orchestrator.agent.watchdog import watch
from orchestrator.errors import ElasticError
from orchestrator.fleets.ec2.sightings import INSTANCE_TAG
from orchestrator.fleets.local import PROCESS_FILE
from orchestrator.fleets.processes import MARKER, write_identity
from orchestrator.jobs.instances import LOOPBACK
from orchestrator.log_line import write_line
from orchestrator.store.disk import arriving
from orchestrator.store.document import random_nonce
from orchestrator.store.owner import this_process
from orchestrator.store.protocol import Store, StoreError

ASK_WHO_I_AM = 10
"""How often, a second apart: the metadata service of a machine that has just booted may take a moment."""
ALLOWANCE_FILE = "allowance"
"""In the work directory, for what watches over the instance from outside: how long it may live, in seconds, or none."""

ALIVE_FILE = "alive"
"""There too: when the agent has made its last turn, in seconds since the machine's boot, as /proc/uptime counts."""


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
    address: str = LOOPBACK,
    metadata: InstanceMetadata | None = None,
    age_s: float = 0.0,
    image: str | None = None,
) -> int:
    """Run the agent of one instance to its end. SIGTERM and SIGINT drain.

    `address`: where the other instances of a generation reach this one.
    `metadata`: of an instance of EC2; its address is the private one then, and its interruptions are listened for.
    `age_s`: how long the instance existed before; that is paid for too.
    `image`: workers run in containers of it; None: they are processes.
    `prompt_store`: the same store, but one that gives up within seconds, for what is asked again and again anyway.
    """
    identity = who_am_i(metadata, instance) if metadata is not None else None
    work_dir.mkdir(parents=True, exist_ok=True)
    with open(work_dir / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log(f"another agent is instance {instance} already: nothing to do")
            return 0
        write_identity(work_dir / PROCESS_FILE, this_process(instance))
        image_cache = image_cache or platformdirs.user_cache_path("elastic") / "images"
        place = Place(instance, job, workers, cores, gpus, idle_exit_s, address, allowance_s=allowance_s)
        if identity is not None:
            place = replace(place, address=identity.address, instance_id=identity.instance_id)
        machine = Machine(place, work_dir, image_cache, os.environ, program, age_s=age_s, image=image)
        supervisor = Supervisor(store, place, machine, random_nonce, _log, prompt_store=prompt_store)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: supervisor.leave(signal.Signals(received).name))
        watch(supervisor.overdue, os.environ.get(MARKER), _log)
        if metadata is not None:
            listen(machine, metadata, supervisor)
        allowance = AllowanceFile(work_dir / ALLOWANCE_FILE)
        with AliveFile(work_dir / ALIVE_FILE) as alive:

            def after_turn() -> None:
                alive.keep(time.clock_gettime(time.CLOCK_BOOTTIME))
                allowance.keep(supervisor.allowance_s)

            supervisor.run(after_turn)
    return 0


class AllowanceFile:
    """Says how long the instance may live, also when a controller has granted more since its launch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = ""

    def keep(self, allowance_s: float | None) -> None:
        """Write it down if it is another than before; what cannot be written now is written later."""
        text = "none" if allowance_s is None else f"{allowance_s:.0f}"
        if text != self._kept:
            with contextlib.suppress(StoreError):
                with arriving(self._path) as temporary:
                    temporary.write_text(f"{text}\n")
                self._kept = text


class AliveFile:
    """Says that the agent lives.

    It is written over in place: also a full disk takes it, and whoever reads it finds a whole number at any moment.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - it is open as long as the agent lives

    def __enter__(self) -> "AliveFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def keep(self, uptime_s: float) -> None:
        """It lives now; what cannot be written now is written at the next turn."""
        with contextlib.suppress(OSError):
            os.pwrite(self._file.fileno(), b"%12d\n" % uptime_s, 0)


def who_am_i(metadata: InstanceMetadata, instance: str, sleep: Callable[[float], None] = time.sleep) -> Identity:
    """This machine in EC2's words. Raises MetadataError, also when it was launched under another name."""
    for left in reversed(range(ASK_WHO_I_AM)):
        try:
            identity = metadata.identity()
            break
        except MetadataError:
            if not left:
                raise
            sleep(1.0)
    launched_as = metadata.tag(INSTANCE_TAG)
    if launched_as is not None and launched_as != instance:
        raise MetadataError(
            f"{identity.instance_id} was launched as {launched_as}, and this agent was started as {instance}: "
            "its user-data is another instance's"
        )
    _log(f"{instance} is {identity.instance_id}, {identity.instance_type} in {identity.zone}, at {identity.address}")
    return identity


def listen(machine: Machine, metadata: InstanceMetadata, supervisor: Supervisor) -> None:
    """Have the supervisor hear of what EC2 announces."""

    def interrupted(notice: Interruption) -> None:
        supervisor.taken_away(notice.action, notice.at, notice.seconds)

    interruptions = InterruptionWatch(metadata, interrupted, supervisor.risks_end, supervisor.note)
    machine.background.start(interruptions.look, "interruptions")


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
        write_line(traceback.format_exc().rstrip(), sys.stderr)
    finally:
        end_at_once(code)


def _log(message: str) -> None:
    write_line(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {message}", sys.stderr)
