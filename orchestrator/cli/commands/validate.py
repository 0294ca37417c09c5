"""`elastic validate`: check job files without submitting them."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.prose import say
from orchestrator.errors import UsageError


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="job.yaml files, or - for standard input.", show_default=False),
    ],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="As of submit.", show_default=False)
    ] = None,
) -> None:
    """Check job.yaml files: every mistake with its line."""
    from orchestrator.cli.commands.submit import read_job
    from orchestrator.spec.problems import Problem, SpecError

    problems: list[Problem] = []
    for file in files:
        try:
            spec = read_job(file, changes or [])
        except SpecError as error:
            problems += error.problems
        except UsageError as error:
            problems.append(Problem(str(file), str(error)))
        else:
            say(f"{file}: fine, a job named {spec.name}")
    if problems:
        raise SpecError(problems)
