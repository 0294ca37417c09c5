"""What the commands that measure speed have in common: choose groups, measure, print, write into a file."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.conditions import conditions
from benchmarks.figures import Findings, as_markdown, between
from benchmarks.place import Vain


def measure_groups(
    name: str,
    about: str | None,
    groups: Mapping[str, Callable[[int, Path], Findings]],
    marker: str,
    prepare: Callable[[], object] = lambda: None,
) -> int:
    """Run `python -m benchmarks.NAME` with the command line's options; returns the exit code.

    marker: of the place that `--write` fills. prepare: what goes before the first measurement.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=groups, default=list(groups), metavar="GROUP", help=", ".join(groups)
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table between the markers of a file")
    parser.add_argument("--runs", type=int, default=3, help="of each (3)")
    given = parser.parse_args()
    started_at, load_before = datetime.now(UTC), os.getloadavg()[0]
    prepare()
    findings = []
    with tempfile.TemporaryDirectory(prefix="elastic-speed-") as root:
        for group in given.only:
            start_s = time.monotonic()
            try:
                findings.append(groups[group](given.runs, Path(root)))
            except Vain as vain:
                print(f"{group}: {vain}", file=sys.stderr)
                return 1
            print(f"{group}: measured in {time.monotonic() - start_s:.0f} s", file=sys.stderr, flush=True)
    command = " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]])
    report = as_markdown(findings, conditions(command, started_at, load_before, given.runs))
    print(report, end="")
    if given.write:
        given.write.write_text(between(marker, given.write.read_text(), report))
    return 0 if all(figure.met is not False for found in findings for figure in found.figures) else 1
