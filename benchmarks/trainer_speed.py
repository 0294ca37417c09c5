"""How quick the trainer is: against the plain loop, and what each of its promises costs.

    python -m benchmarks.trainer_speed                       # everything: some ten minutes on two idle cores
    python -m benchmarks.trainer_speed --only parts --runs 1
    python -m benchmarks.trainer_speed --write README.md     # also between that file's trainer-speed markers

On a machine with a GPU the same command measures the GPU. Each pair is measured in turns, in one run; the figures are
medians. The exit code is 1 when a target is missed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import against_article, step_parts, trainer_runs
from benchmarks.conditions import conditions
from benchmarks.figures import Findings, as_markdown, between

GROUPS: dict[str, Callable[[int, Path], Findings]] = {
    "article": against_article.measure,
    "parts": step_parts.measure,
    "runs": trainer_runs.measure,
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
    findings = []
    with tempfile.TemporaryDirectory(prefix="trainer-speed-") as root:
        for group in given.only:
            start_s = time.monotonic()
            findings.append(GROUPS[group](given.runs, Path(root)))
            print(f"{group}: measured in {time.monotonic() - start_s:.0f} s", file=sys.stderr, flush=True)
    command = " ".join(["python -m benchmarks.trainer_speed", *sys.argv[1:]])
    report = as_markdown(findings, conditions(command, started_at, load_before, given.runs))
    print(report, end="")
    if given.write:
        given.write.write_text(between("trainer-speed", given.write.read_text(), report))
    return 0 if all(figure.met is not False for found in findings for figure in found.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
