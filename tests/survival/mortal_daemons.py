"""Daemon after daemon, each of which kills itself at the first boundary where none before it has died.

    python -m tests.survival.mortal_daemons STORE_URL DIARY STATE_DIR [--every]

A boundary lies before or after a call to the store or to the fleet. Where one lies is told by the call, by what it is
about and, where it changes something of the job, by how the job stood then and whether the daemon has done the like
before. With `--every` all are told apart by how the job stood, and by their number up to the fourth.

Each daemon is the real one in a process of its own, forked here so that Python and its packages start only once; it
ends by SIGKILL. Between a death and the next birth all that must hold at any moment is looked at. The diary gets a line
for every birth, death, first action and fault. This process ends when a daemon has ended by itself, being idle.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import psutil

from orchestrator.controller import daemon
from orchestrator.fleets.local import open_local_fleet
from orchestrator.fleets.processes import MARKER
from orchestrator.fleets.protocol import Fleet, LaunchRequest, Offer, Sighting
from orchestrator.jobs.bucket import load_record
from orchestrator.jobs.record import JobRecord
from orchestrator.spec.models import Resources
from orchestrator.store import open_store
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Store
from tests.support.interposed import WRITES, InterposedStore, Operation
from tests.survival.system import JOB, processes_of_instances, role_of

IDLE_EXIT_S = 1.0


@dataclass(frozen=True)
class Diary:
    """Lines of JSON that many processes add to."""

    path: Path

    def write(self, what: str, **details: Any) -> None:
        line = json.dumps({"what": what, "at": time.monotonic(), "pid": os.getpid(), **details})
        with open(self.path, "a") as file:
            file.write(line + "\n")

    def read(self, *kinds: str) -> list[dict[str, Any]]:
        text = self.path.read_text() if self.path.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last may be on its way
        return [entry for entry in map(json.loads, lines) if not kinds or entry["what"] in kinds]


@dataclass
class Fate:
    """When this daemon dies."""

    store: Store
    diary: Diary
    known: frozenset[str]
    every: bool
    acted: bool = False
    met: Counter[str] = field(default_factory=Counter)

    def around(self, call: Callable[[], object], what: str, *, acts: bool) -> object:
        """Make a call, and die before or after it if no daemon has yet died there."""
        boundary = what
        if self.every or (acts and not what.startswith(_OWN_AFFAIRS)):
            boundary += f", {self._stand()}"
            self.met[boundary] += 1
            boundary += f", {min(self.met[boundary], 4 if self.every else 2)}"
        self._meet(f"before {boundary}")
        answer = call()
        if acts:
            if not self.acted and not what.startswith(_OWN_AFFAIRS):
                self.acted = True
                self.diary.write("action", action=what)
            self._meet(f"after {boundary}")  # after a read is before the next call
        return answer

    def _meet(self, boundary: str) -> None:
        if boundary in self.known:
            return
        self.diary.write("death", boundary=boundary, stand=self._stand())
        os.kill(os.getpid(), signal.SIGKILL)

    def _stand(self) -> str:
        """How the job stands, in a few words."""
        record = load_record(self.store, JOB).value
        stands = [f"{record.phase}"]
        stands += [f"g{g.number} {g.phase}" for g in (record.generation, record.upcoming) if g is not None]
        return " ".join(stands)


_OWN_AFFAIRS = ("store create control/", "store replace control/", "store put control/", "store delete control/")
"""How daemons find out whether the store is sound and who leads: nothing that a job would notice."""


@dataclass
class MortalFleet:
    """A fleet with a fate at each of its calls."""

    inner: Fleet
    fate: Fate

    @property
    def lag_s(self) -> float:
        return self.inner.lag_s

    def launch(self, request: LaunchRequest) -> None:
        self.fate.around(lambda: self.inner.launch(request), f"fleet launch {request.instance}", acts=True)

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        known: dict[str, Sighting] = {}
        self.fate.around(lambda: known.update(self.inner.describe(instances)), "fleet describe", acts=False)
        return known

    def terminate(self, instance: str) -> None:
        self.fate.around(lambda: self.inner.terminate(instance), f"fleet terminate {instance}", acts=True)

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:
        return self.inner.offers(resources, instance_type)


def one_life(store: Store, fate: Fate) -> int:
    """The real daemon, with its fate between it and the world."""

    def around(operation: Operation, key: str, call: Callable[[], object]) -> object:
        return fate.around(call, f"store {operation} {_kind_of(key)}", acts=operation in WRITES)

    def fleet(_store: Store, environ: Mapping[str, str], nonce: Nonce) -> Fleet:
        return MortalFleet(open_local_fleet(store, environ, nonce), fate)

    def log(line: str) -> None:
        print(line, flush=True)

    with patch.object(daemon, "open_local_fleet", fleet):
        return daemon.run_daemon(InterposedStore(store, around), label="mortal", idle_exit_s=IDLE_EXIT_S, log=log)


def _live(store_url: str, diary: Diary, known: frozenset[str], every: bool) -> NoReturn:
    """In the forked process: live, and never come back from here."""
    code = 1
    try:
        os.setsid()
        store = open_store(store_url, os.environ)  # connections are not to be shared
        code = one_life(store, Fate(store, diary, known, every))
    except Exception:  # noqa: BLE001 - whatever it is, this process must not go on as if it were the parent
        traceback.print_exc()
    finally:
        os._exit(code)


def _kind_of(key: str) -> str:
    """A key without what differs from one life to the next, or from one event to another."""
    key = re.sub(r"probe/[0-9a-f-]+", "probe/NONCE", key)
    return re.sub(r"(events|decisions|requests/[^/]+)/.+\.json", r"\1/ONE.json", key)


# --- between two lives ------------------------------------------------------------------------------------------------


def faults(record: JobRecord, state: Path) -> list[str]:
    """What must not be at any moment: an instance that nobody has decided on, or two agents that are one instance."""
    intended = {use.instance for use in record.uses} | set(record.retired)
    intended |= {i for g in (record.generation, record.upcoming) if g is not None for i in g.instances}
    agents = Counter(_agents(state))
    strangers = [f"{name} runs, and the record does not know it" for name in agents if name not in intended]
    return strangers + [f"{name} runs {count} times" for name, count in agents.items() if count > 1]


def _agents(state: Path) -> list[str]:
    """The instances whose agents run, once for each agent."""
    agents = {process.pid: process for process in processes_of_instances(state) if role_of(process) == "agent"}
    found = []
    for process in agents.values():
        try:
            # What an agent starts looks like an agent itself until it has become what it is to be.
            marker = "" if process.ppid() in agents else process.environ().get(MARKER, "")
        except psutil.NoSuchProcess:
            continue
        found += [Path(marker).name] if marker else []
    return found


def main() -> int:
    """Let daemons live and die until one ends by itself."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("diary", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--every", action="store_true")
    arguments = parser.parse_args()
    diary, store = Diary(arguments.diary), open_store(arguments.store, os.environ)
    while True:
        known = frozenset(death["boundary"] for death in diary.read("death"))
        diary.write("birth")
        child = os.fork()
        if child == 0:
            _live(arguments.store, diary, known, arguments.every)
        _, status = os.waitpid(child, 0)
        for fault in faults(load_record(store, JOB).value, arguments.state):
            diary.write("fault", fault=fault)
        if not os.WIFSIGNALED(status):
            diary.write("end", code=os.waitstatus_to_exitcode(status))
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
