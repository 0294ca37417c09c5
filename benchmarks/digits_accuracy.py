"""What Mean Teacher is worth: digits with 50 labels, supervised only against Mean Teacher.

    python benchmarks/digits_accuracy.py [--seeds 5] [--at-once 1] [--directory RUNS]

Trains examples/digits.yaml and examples/digits-supervised.yaml once per seed by `python -m trainer`, which gives the
same weights as any number of workers, and prints a Markdown table of the last checkpoint's accuracy on the 360 test
images. Both methods take the same steps on the same labelled images with the same augmentation. A seed draws everything
anew: which images are labelled, the first weights, the order, the augmentation. Settings were chosen on seeds from 100
on.
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
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
    parser.add_argument("--directory", type=Path, help="keep the runs there; those that finished are not repeated")
    given = parser.parse_args()
    runs = [(method, seed) for method in METHODS for seed in range(given.seeds)]
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.at_once) as pool:
        directory = given.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        outcomes = list(pool.map(lambda run: train(directory, *run), runs))
    print(table(outcomes))
    print()
    print(conditions(outcomes, given.seeds))


def train(directory: Path, method: str, seed: int) -> Outcome:
    """Train one run to its end, unless it is there already with the same config."""
    job = YAML(typ="safe").load(EXAMPLES / METHODS[method])
    content = json.dumps({**job["training"], "method": method, "seed": seed})
    config, run_dir = directory / f"{method}-{seed}.json", directory / f"{method}-{seed}"
    finished = list((run_dir / "checkpoints").glob("*/result.json"))
    if not finished or config.read_text() != content:
        shutil.rmtree(run_dir, ignore_errors=True)
        config.write_text(content)
        command = [sys.executable, "-m", "trainer", str(config), str(run_dir), "--checkpoint-every-s", "3600"]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        finished = list((run_dir / "checkpoints").glob("*/result.json"))
    (path,) = finished
    result, meta = (json.loads((path.parent / name).read_text()) for name in ("result.json", "meta.json"))
    for tensors in path.parent.glob("*.pt"):
        tensors.unlink()
    percent = 100 * (result["teacher_accuracy"] or result["student_accuracy"])
    seconds = result["seconds_training"]
    print(f"{method}, seed {seed}: {percent:.1f} %, {seconds:.0f} s", file=sys.stderr, flush=True)
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


def conditions(outcomes: Sequence[Outcome], seeds: int) -> str:
    """Under which the table was measured."""
    one = next(outcome for outcome in outcomes if outcome.method == "mean_teacher")
    config, maker = one.meta["config"], one.meta["made_with"]
    return (
        f"`python benchmarks/digits_accuracy.py --seeds {seeds}`: {one.result['steps']} steps of "
        f"{config['batch']} images, {config['labelled_batch']} labelled (supervised: those alone), 50 labels of "
        f"1,437 training images, 360 test images (one is 0.28 %); {maker['device']}, {maker['precision']}, "
        f"torch {maker['torch']}, Python {maker['python']}, {platform.system()}."
    )


if __name__ == "__main__":
    main()
