"""What Mean Teacher is worth: digits with 50 labels, supervised only against Mean Teacher.

    python benchmarks/digits_accuracy.py [--seeds 5] [--at-once 1]

Trains examples/digits.yaml and examples/digits-supervised.yaml once per seed by `python -m trainer`, which gives the
same weights as any number of workers, and prints a Markdown table of the last checkpoint's accuracy on the 360 test
images. Both methods take the same steps on the same labelled images with the same augmentation. A seed draws everything
anew: which images are labelled, the first weights, the order, the augmentation. Settings were chosen on seeds from 100
on.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

EXAMPLES = Path(__file__).parent.parent / "examples"
METHODS = {"supervised": "digits-supervised.yaml", "mean_teacher": "digits.yaml"}


@dataclass(frozen=True)
class Outcome:
    """One finished run."""

    method: str
    seed: int
    result: dict[str, Any]
    meta: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Digits with 50 labels: supervised only against Mean Teacher.")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on [5]")
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time, each on one core [1]")
    given = parser.parse_args()
    start = time.monotonic()
    runs = [(method, seed) for method in METHODS for seed in range(given.seeds)]
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(given.at_once) as pool:
        outcomes = list(pool.map(lambda run: train(Path(directory), *run), runs))
    print(table(outcomes))
    print()
    print(conditions(outcomes, given.seeds, given.at_once, time.monotonic() - start))


def train(directory: Path, method: str, seed: int) -> Outcome:
    """Train one run to its end."""
    job = YAML(typ="safe").load(EXAMPLES / METHODS[method])
    config = directory / f"{method}-{seed}.json"
    config.write_text(json.dumps({**job["training"], "method": method, "seed": seed}))
    run_dir = directory / f"{method}-{seed}"
    command = [sys.executable, "-m", "trainer", str(config), str(run_dir), "--checkpoint-every-s", "3600"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    (final,) = (run_dir / "checkpoints").iterdir()
    result, meta = (json.loads((final / name).read_text()) for name in ("result.json", "meta.json"))
    for tensors in final.glob("*.pt"):
        tensors.unlink()
    shown = result["teacher_accuracy"] or result["student_accuracy"]
    print(
        f"{method}, seed {seed}: {100 * shown:.1f} %, {result['seconds_training']:.0f} s", file=sys.stderr, flush=True
    )
    return Outcome(method, seed, result, meta)


def table(outcomes: Sequence[Outcome]) -> str:
    """Accuracy in percent, a row for each network, a column for each seed, then mean, deviation and worst."""
    seeds = sorted({outcome.seed for outcome in outcomes})
    rows = [
        [
            "test accuracy in %, last checkpoint",
            *(f"seed {seed}" for seed in seeds),
            "mean",
            "standard deviation",
            "worst",
        ],
        ["---", *["---:"] * (len(seeds) + 3)],
    ]
    for title, method, network in (
        ("supervised only", "supervised", "student"),
        ("Mean Teacher: student", "mean_teacher", "student"),
        ("**Mean Teacher: teacher**", "mean_teacher", "teacher"),
    ):
        percents = [100 * o.result[f"{network}_accuracy"] for o in outcomes if o.method == method]
        spread = statistics.stdev(percents) if len(percents) > 1 else 0.0
        numbers = [*percents, statistics.mean(percents), spread, min(percents)]
        rows.append([title, *(f"{number:.1f}" for number in numbers)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def conditions(outcomes: Sequence[Outcome], seeds: int, at_once: int, elapsed_s: float) -> str:
    """Under which the table was measured."""
    one = next(outcome for outcome in outcomes if outcome.method == "mean_teacher")
    config, maker = one.meta["config"], one.meta["made_with"]
    return (
        f"`python benchmarks/digits_accuracy.py --seeds {seeds} --at-once {at_once}`: {one.result['steps']} steps of "
        f"{config['batch']} images, {config['labelled_batch']} labelled (supervised: those alone), 50 labels of "
        f"1,437 training images, 360 test images (one is 0.28 %); {maker['device']}, {maker['precision']}, "
        f"torch {maker['torch']}, Python {maker['python']}, {platform.system()}; {elapsed_s / 60:.0f} min in all."
    )


if __name__ == "__main__":
    main()
