"""What Mean Teacher is worth on a job's images: supervised only, Mean Teacher, and every label, on the same code.

    python -m benchmarks.accuracy [JOB.yaml] [--seeds 5] [--at-once 1] [--directory RUNS] [--set FIELD=VALUE]

Trains the job's training section once per seed and kind by `python -m trainer`, which gives the same weights as any
number of workers, and prints a Markdown table of the last checkpoint's accuracy on the test images, never the best
seen. Without a job it is examples/digits.yaml. All kinds take the same steps with the same augmentation; what learns
from labels only has the same labelled images a step, and what has every label has a whole batch of them. A seed draws
everything anew: which images are labelled, the first weights, the order, the augmentation. Settings were chosen on
seeds from 100 on.
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

from orchestrator.spec.load import load_job
from orchestrator.spec.problems import SpecError
from trainer.config import TrainingConfig

DIGITS = Path(__file__).parent.parent / "examples" / "digits.yaml"
KINDS = ("supervised", "mean_teacher", "every_label")
ROWS = (
    ("supervised only", "supervised", "student"),
    ("Mean Teacher: student", "mean_teacher", "student"),
    ("**Mean Teacher: teacher**", "mean_teacher", "teacher"),
    ("supervised, every label", "every_label", "student"),
)


@dataclass(frozen=True)
class Outcome:
    """One finished run."""

    kind: str
    seed: int
    result: dict[str, Any]
    meta: dict[str, Any]

    def percent(self, network: str) -> float:
        return float(100 * self.result[f"{network}_accuracy"])


def main() -> None:
    """Train all runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path, nargs="?", default=DIGITS, help="job.yaml with method: mean_teacher")
    parser.add_argument("--seeds", type=int, default=5, help="how many [5]")
    parser.add_argument("--first-seed", type=int, default=0, help="from this one on [0]")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="which to train [all]")
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time [1]")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--directory", type=Path, help="keep the runs there; those that finished are not repeated")
    given = parser.parse_args()
    try:
        configured = load_job(given.job, given.changes).training
    except SpecError as error:
        sys.exit(str(error))
    if configured is None:
        sys.exit(f"{given.job} runs a program of its own: give a job.yaml with method: mean_teacher")
    training = same_steps(configured)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    runs = [(kind, seed) for kind in given.kinds for seed in seeds]
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.at_once) as pool:
        directory = given.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        outcomes = list(pool.map(lambda run: train(directory, training, *run), runs))
    print(table(outcomes))
    print()
    print(conditions(outcomes))


def same_steps(config: TrainingConfig) -> dict[str, Any]:
    """The training section with a number of steps: an epoch is as long as the unlabelled images that a kind has."""
    if config.steps is None and config.facts is None:
        sys.exit(f"dataset {config.dataset}: give training.steps in place of epochs, so that all kinds train as long")
    steps = config.steps if config.facts is None else config.plan(config.facts).total_steps
    return config.model_dump(mode="json") | {"steps": steps, "epochs": None}


def variant(training: dict[str, Any], kind: str, seed: int) -> dict[str, Any]:
    """The training section of one kind: what differs is the method, and for every label those."""
    changes: dict[str, Any] = {"seed": seed}
    if kind != "mean_teacher":
        changes["method"] = "supervised"
    if kind == "every_label":
        changes |= {"labels": "100%", "labelled_batch": training["batch"]}
    return training | changes


def train(directory: Path, training: dict[str, Any], kind: str, seed: int) -> Outcome:
    """Train one run to its end, unless it is there already with the same config."""
    content = json.dumps(variant(training, kind, seed))
    config, run_dir = directory / f"{kind}-{seed}.json", directory / f"{kind}-{seed}"
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
    print(f"{kind}, seed {seed}: {percent:.1f} %, {seconds:.0f} s", file=sys.stderr, flush=True)
    return Outcome(kind, seed, result, meta)


def table(outcomes: Sequence[Outcome]) -> str:
    """Accuracy in percent, a row for each network, a column for each seed, then mean, deviation and worst."""
    seeds = sorted({outcome.seed for outcome in outcomes})
    names = [*(f"seed {seed}" for seed in seeds), "mean", "standard deviation", "worst"]
    rows = [["test accuracy in %, last checkpoint", *names], ["---", *["---:"] * (len(seeds) + 3)]]
    for title, kind, network in ROWS:
        percents = [outcome.percent(network) for outcome in outcomes if outcome.kind == kind]
        if percents:
            spread = statistics.stdev(percents) if len(percents) > 1 else 0.0
            numbers = [*percents, statistics.mean(percents), spread, min(percents)]
            rows.append([title, *(f"{number:.1f}" for number in numbers)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def gap_closed(outcomes: Sequence[Outcome]) -> float | None:
    """Of the way from supervised only to every label, the percentage that the teacher goes; None without all three."""
    means = {}
    for kind, network in (("supervised", "student"), ("mean_teacher", "teacher"), ("every_label", "student")):
        percents = [outcome.percent(network) for outcome in outcomes if outcome.kind == kind]
        if not percents:
            return None
        means[kind] = statistics.mean(percents)
    return 100 * (means["mean_teacher"] - means["supervised"]) / (means["every_label"] - means["supervised"])


def conditions(outcomes: Sequence[Outcome]) -> str:
    """Under which the table was measured."""
    one = outcomes[0]
    config, maker = one.meta["config"], one.meta["made_with"]
    tested = sum(map(sum, one.result["confusion"]["student"]))
    closed = gap_closed(outcomes)
    said = f"`python -m benchmarks.accuracy {' '.join(sys.argv[1:])}`: {config['dataset']}, "
    said += f"{one.result['steps']} steps of {config['batch']} images, {config['labels']} labels, "
    said += f"{tested:,} test images (one is {100 / tested:.2g} %); {maker['device']}, {maker['precision']}, "
    said += f"torch {maker['torch']}, Python {maker['python']}, {platform.system()}."
    return said if closed is None else f"{said} Mean Teacher closes {closed:.0f} % of the gap."


if __name__ == "__main__":
    main()
