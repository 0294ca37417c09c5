"""`python -m tests.agent.fake_package CONFIG RUN_DIR`, or forked from a launcher that has called `warm_up`."""

import os
import sys

from tests.agent.fake_trainer import main


def warm_up() -> None:
    """What takes seconds in a real one."""
    os.environ["WARMED_UP_BY"] = str(os.getpid())


if __name__ == "__main__":
    sys.exit(main())
