"""The example of a program of one's own, made as long as a test needs it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.survival.system import JOB

EXAMPLE = Path(__file__).parents[2] / "examples" / "bring-your-own"
STEPS = 100_000
"""More than it makes before a test ends: whoever waits for its end gives it fewer."""


def own_job(steps: int = STEPS, **changes: Any) -> dict[str, Any]:
    """What job.yaml has: train.py as it is, reports and checkpoints often."""
    return {
        "name": JOB,
        "command": [sys.executable, str(EXAMPLE / "train.py")],
        "config": {"steps": steps, "batch": 64, "lr": 0.001, "seed": 0, "report_every": 10},
        "resources": {"ladder": [{"workers": 1}, {"workers": 2}]},
        "scaling": {"window": "10m", "cooldown": "1h"},
        "checkpoint": {"every": "1s", "keep": 3, "keep_free": "1MiB"},
        **changes,
    }


def script_job(directory: Path, script: str, **changes: Any) -> dict[str, Any]:
    """A job of a shell script, which starts at once."""
    path = directory / "program.sh"
    path.write_text(script)
    return own_job(**{"command": ["sh", path.name], "working_dir": str(directory), "config": {}, **changes})


def write(path: Path, job: dict[str, Any]) -> Path:
    path.write_text(json.dumps(job, indent=2))  # JSON is YAML
    return path


def path_with_this_python() -> str:
    """A PATH on which `python` is the one that runs the tests."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
