"""How long a person waits for the commands that are typed most."""

from pathlib import Path

from benchmarks.figures import Figure, Findings, Target
from benchmarks.place import Place

MANY = 50
TRIES_PER_RUN = 3


def measure(runs: int, root: Path) -> Findings:
    """`elastic --help` and `elastic ps`, from the start of the process to its end."""
    directory = root / "commands"
    directory.mkdir()
    with Place.below(directory) as place:
        place.submit_pending(1)
        tries = runs * TRIES_PER_RUN
        few = [place.run("ps") for _ in range(tries)]
        place.submit_pending(MANY - 1)
        many = [place.run("ps") for _ in range(tries)]
        help_ = [place.run("--help") for _ in range(tries)]
    return Findings(
        (
            Figure("`elastic ps`, 1 job", "s", tuple(few), Target(at_most=0.6)),
            Figure(f"`elastic ps`, {MANY} jobs", "s", tuple(many), Target(at_most=0.6)),
            Figure("`elastic --help`", "s", tuple(help_), Target(at_most=0.4)),
        ),
        remarks=(f"The commands were run {tries} times each.",),
    )
