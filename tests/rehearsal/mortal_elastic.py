"""`elastic daemon` that kills itself at a boundary: `python -m tests.rehearsal.mortal_elastic FILE daemon...`.

The file says for which job it lives, all others being hidden from it, and at which boundary it dies; it is read again
at each. Boundaries are before and after a launch by the EC2 fleet and before and after an order to an agent.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from orchestrator.cli.main import run
from orchestrator.controller import daemon
from orchestrator.fleets.ec2.open import Ec2FleetOfStore
from orchestrator.fleets.protocol import LaunchRequest
from orchestrator.jobs import layout
from orchestrator.store.protocol import Entry, Store
from tests.support.interposed import WRITES, InterposedStore, Operation

LAUNCH, ORDER = "launch", "order"


@dataclass(frozen=True)
class Fate:
    """Of one daemon."""

    job: str
    dies: str
    """Before or after what; empty: it does not."""

    def write(self, path: Path) -> None:
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)))
        new.replace(path)  # a daemon that lives may be reading it

    @classmethod
    def read(cls, path: Path) -> "Fate":
        return cls(**json.loads(path.read_text()))


def main() -> int:
    """Run the command that follows the file."""
    path, launch, run_daemon = Path(sys.argv[1]), Ec2FleetOfStore.launch, daemon.run_daemon

    def meet(where: str) -> None:
        if Fate.read(path).dies == where:
            os.kill(os.getpid(), signal.SIGKILL)

    def mortal_launch(fleet: Ec2FleetOfStore, request: LaunchRequest) -> None:
        meet(f"before {LAUNCH}")
        launch(fleet, request)
        meet(f"after {LAUNCH}")

    def around(operation: Operation, key: str, call: Callable[[], object]) -> object:
        if operation == "list" and key == layout.TODO:
            return [entry for entry in _entries(call()) if f"/{Fate.read(path).job}/" in f"{entry.key}/"]
        if operation not in WRITES or not key.endswith("/assignment.json"):
            return call()
        meet(f"before {ORDER}")
        answer = call()
        meet(f"after {ORDER}")
        return answer

    def mortal_daemon(store: Store, **more: Any) -> int:
        return run_daemon(InterposedStore(store, around), **more)

    with patch.object(Ec2FleetOfStore, "launch", mortal_launch), patch.object(daemon, "run_daemon", mortal_daemon):
        return run(sys.argv[2:])


def _entries(found: object) -> list[Entry]:
    assert isinstance(found, list)
    return found


if __name__ == "__main__":
    sys.exit(main())
