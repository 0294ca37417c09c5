"""Progress of downloads: bars on a terminal, nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def transfer_view() -> Iterator[Callable[[str, int, int], None]]:
    """What to call with a file's name, its size and the bytes that have come since the last call."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from orchestrator.cli.output import prose_console

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=prose_console(), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, size_bytes: int, some: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=size_bytes)
            bars.advance(tasks[name], some)

        yield show
