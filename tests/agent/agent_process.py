"""A real agent whose workers run the trainer of a few lines: python -m tests.agent.agent_process STORE WORK_DIR."""

import sys
from pathlib import Path

from orchestrator.agent.main import run_agent
from orchestrator.store.local import LocalStore
from tests.agent.test_launcher import FAKE_TRAINER

INSTANCE, JOB = "digits-g1-n0-a0", "digits"

if __name__ == "__main__":
    store, work_dir, idle_exit_s = sys.argv[1:]
    sys.exit(
        run_agent(
            LocalStore(Path(store)),
            instance=INSTANCE,
            job=JOB,
            workers=1,
            cores=1,
            gpus=(),
            work_dir=Path(work_dir),
            idle_exit_s=float(idle_exit_s),
            program=FAKE_TRAINER,
        )
    )
