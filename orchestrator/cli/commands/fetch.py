"""`elastic fetch`: the model and what belongs to it, in a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, OutputOption, StoreOption, flag
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say, warn
from orchestrator.reading import text

if TYPE_CHECKING:
    from orchestrator.cli.fetching import Fetched


def fetch(
    context: typer.Context,
    job: JobArgument,
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Where to.", show_default="./JOB")] = None,
    force: Annotated[bool, flag("--force", help="Write over files that exist.")] = False,
    tensorboard: Annotated[bool, flag("--tensorboard", help="Also TensorBoard files from the progress lines.")] = False,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """Download model, metrics and config into a folder; of a program of your own, all that its checkpoint holds.

    Of a running job as of its last checkpoint. When it is broken off, the same command goes on.
    """
    from orchestrator.cli.fetching import fetch_job
    from orchestrator.cli.pinning import Reader
    from orchestrator.cli.transfer_view import transfer_view

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    target = directory or Path(job)
    reader = Reader(by=invocation.asker(), nonce=invocation.nonce, tell=warn)
    with transfer_view() as progress:
        fetched = fetch_job(where, job, target, overwrite=force, progress=progress, reader=reader, curves=tensorboard)
    emit(
        output,
        data=lambda: {
            "job": job,
            "directory": str(fetched.directory),
            "step": fetched.step,
            "final": fetched.final,
            "model": fetched.model,
            "files": {str(path.relative_to(fetched.directory)): size for path, size in fetched.files.items()},
        },
        names=lambda: [str(path) for path in fetched.files],
        table=lambda: "\n".join(f"{path}  {text.size(size)}" for path, size in fetched.files.items()),
    )
    _say_how_to_load(fetched)


def _say_how_to_load(fetched: "Fetched") -> None:
    kind = "final" if fetched.final else f"not final: as of step {fetched.step:,}, its last checkpoint"
    if not fetched.loading_lines():
        say(f"All files of the checkpoint ({kind}), as your program has written them.")
        return
    say(f"The {fetched.model} ({kind}). To load it:")
    say("")
    for line in fetched.loading_lines():
        say(f"    {line}")
