"""Options and arguments that many commands share."""

from typing import Annotated, Any

import typer

from orchestrator.cli.output import Format


def complete_job(context: typer.Context, incomplete: str) -> list[str]:
    """The names of the jobs in the store, for the shell, which cannot show an error: then there is nothing to offer."""
    from orchestrator.cli.invocation import Invocation
    from orchestrator.errors import ElasticError
    from orchestrator.jobs.bucket import job_names

    parent = context.parent.params if context.parent else {}
    url = context.params.get("store") or parent.get("store")
    try:
        return [name for name in job_names(Invocation.of(context).open_store(url)) if name.startswith(incomplete)]
    except ElasticError:
        return []


def flag(*names: str, help: str, hidden: bool = False, is_eager: bool = False) -> Any:
    """An option that is there or not; without this, help would say that its value is a <bool>."""
    return typer.Option(*names, help=help, hidden=hidden, is_eager=is_eager, metavar="")


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where jobs live: file:///path or s3://bucket/prefix.",
        show_default="ELASTIC_STORE",
    ),
]
OutputOption = Annotated[
    Format, typer.Option("--output", "-o", metavar="FORMAT", help="table, wide, json, yaml or name.")
]
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Name of the job.", autocompletion=complete_job, show_default=False)
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(metavar="JOB...", help="Names of the jobs.", autocompletion=complete_job, show_default=False),
]
NoDaemonOption = Annotated[
    bool, flag("--no-daemon", help="Start no controller in the background, even if none is alive.")
]
