"""`elastic init`: a job.yaml to start from."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import flag
from orchestrator.cli.prose import say, suggest
from orchestrator.errors import ElasticError, UsageError


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("job.yaml"),
    force: Annotated[bool, flag("--force", help="Write over a file that exists.")] = False,
) -> None:
    """Write a job.yaml with every field explained."""
    from orchestrator.spec.template import job_template

    try:
        with file.open("w" if force else "x", encoding="utf-8") as target:
            target.write(job_template())
    except FileExistsError:
        raise UsageError(f"{file} exists already: choose another name, or write over it with --force") from None
    except OSError as error:
        raise ElasticError(f"cannot write {file}: {error.strerror}") from error
    say(f"Wrote {file}. Next:")
    suggest(
        (f"elastic validate {file}", "check it after you changed it"),
        (f"elastic submit {file} --follow", "run it and watch"),
    )
