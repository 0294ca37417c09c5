"""Measures how quick elastic is on this machine, with the real commands, and prints the README's table of it.

    uv run python -m benchmarks.speed                     # everything, less than ten minutes on two idle cores
    uv run python -m benchmarks.speed --only commands idling --runs 1
    uv run python -m benchmarks.speed --write README.md   # also between the markers of that file

Every figure is the median of several runs with their range, stands beside the target that was set for it, and comes
with its conditions. The exit code is 1 when a target is missed.
"""

import subprocess
import sys

from benchmarks import commands, generations, idling, training
from benchmarks.groups import measure_groups

GROUPS = {
    "generations": generations.measure,
    "commands": commands.measure,
    "idling": idling.measure,
    "training": training.measure,
}


def main() -> int:
    """Measure what was asked for and print it."""
    return measure_groups("speed", __doc__, GROUPS, "speed", _fill_file_cache)


def _fill_file_cache() -> None:
    """Import whatever is measured, so that the first run finds the same file cache as the others."""
    subprocess.run([sys.executable, "-c", "import torch, torch.distributed, boto3, typer, rich"], check=True)


if __name__ == "__main__":
    sys.exit(main())
