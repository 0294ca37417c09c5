"""Measures how quick elastic is on this machine, with the real commands, and prints the README's table of it.

    uv run python -m benchmarks.speed                     # everything, less than ten minutes on two idle cores
    uv run python -m benchmarks.speed --only commands idling --runs 1
    uv run python -m benchmarks.speed --write README.md   # also between the markers of that file

Every figure is the median of several runs with their range, stands beside the target that was set for it, and comes
with its conditions. The exit code is 1 when a target is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import commands, generations, idling, training
from benchmarks.conditions import conditions
from benchmarks.figures import Findings, as_markdown, between
from benchmarks.place import Vain

GROUPS: dict[str, Callable[[int, Path], Findings]] = {
    "generations": generations.measure,
    "commands": commands.measure,
    "idling": idling.measure,
    "training": training.measure,
}


def main() -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS)
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table between the markers of a file")
    parser.add_argument("--runs", type=int, default=3, help="of each (3)")
    given = parser.parse_args()
    started_at, load_before = datetime.now(UTC), os.getloadavg()[0]
    # Imports of whatever is measured, so that the first run finds the same file cache as the others.
    subprocess.run([sys.executable, "-c", "import torch, torch.distributed, boto3, typer, rich"], check=True)
    findings = []
    with tempfile.TemporaryDirectory(prefix="elastic-speed-") as root:
        for group in given.only:
            start_s = time.monotonic()
            try:
                findings.append(GROUPS[group](given.runs, Path(root)))
            except Vain as vain:
                print(f"{group}: {vain}", file=sys.stderr)
                return 1
            print(f"{group}: measured in {time.monotonic() - start_s:.0f} s", file=sys.stderr, flush=True)
    command = " ".join(["python -m benchmarks.speed", *sys.argv[1:]])
    report = as_markdown(findings, conditions(command, started_at, load_before, given.runs))
    print(report, end="")
    if given.write:
        given.write.write_text(between("speed", given.write.read_text(), report))
    return 0 if all(figure.met is not False for found in findings for figure in found.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
