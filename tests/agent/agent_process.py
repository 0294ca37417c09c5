"""A real agent whose workers run the trainer of a few lines.

python -m tests.agent.agent_process STORE WORK_DIR IDLE_EXIT_S [ALLOWANCE_S: its store never answers a heartbeat]
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

from orchestrator.agent import supervisor
from orchestrator.agent.main import run_agent
from orchestrator.store.local import LocalStore
from tests.agent.test_launcher import FAKE_TRAINER
from tests.support.interposed import InterposedStore

INSTANCE, JOB = "digits-g1-n0-a0", "digits"


def hangs(operation: str, _key: str, call: Callable[[], object]) -> object:
    """As a network file system does whose server is gone."""
    if operation == "put":
        threading.Event().wait()
    return call()


if __name__ == "__main__":
    store, work_dir, idle_exit_s, *allowance_s = sys.argv[1:]
    supervisor.HARD_END_AFTER_S = 0.5
    place = LocalStore(Path(store))
    sys.exit(
        run_agent(
            InterposedStore(place, hangs) if allowance_s else place,
            instance=INSTANCE,
            job=JOB,
            workers=1,
            cores=1,
            gpus=(),
            work_dir=Path(work_dir),
            idle_exit_s=float(idle_exit_s),
            allowance_s=float(allowance_s[0]) if allowance_s else None,
            program=FAKE_TRAINER,
        )
    )
