"""How quick the trainer is: against the plain loop, and what each of its promises costs.

    python -m benchmarks.trainer_speed                       # everything: some ten minutes on two idle cores
    python -m benchmarks.trainer_speed --only parts --runs 1
    python -m benchmarks.trainer_speed --write README.md     # also between that file's trainer-speed markers

On a machine with a GPU the same command measures the GPU. Each pair is measured in turns, in one run; the figures are
medians. The exit code is 1 when a target is missed.
"""

import sys

from benchmarks import against_article, step_parts, trainer_runs
from benchmarks.groups import measure_groups

GROUPS = {"article": against_article.measure, "parts": step_parts.measure, "runs": trainer_runs.measure}


def main() -> int:
    """Measure what was asked for and print it."""
    return measure_groups("trainer_speed", __doc__, GROUPS, "trainer-speed")


if __name__ == "__main__":
    sys.exit(main())
