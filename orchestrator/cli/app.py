"""The commands by name, in the order and groups in which `elastic --help` shows them."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import StoreOption, flag

GROUPS = {
    "Submit and watch": (
        "submit",
        "ps",
        "show",
        "follow",
        "logs",
        "events",
        "explain",
        "dashboard",
        "instances",
        "pool",
        "cost",
        "wait",
        "fetch",
    ),
    "Change": ("cancel", "pause", "resume", "resize", "rm", "reap"),
    "job.yaml": ("init", "rehearse", "validate", "schema"),
    "Machinery": ("bootstrap", "daemon", "agent", "doctor", "version"),
}
HIDDEN = ("simulate",)
COMMANDS = (*(name for names in GROUPS.values() for name in names), *HIDDEN)

_ANOTHERS_MODULE = {"resume": "pause"}
"""Every other command is a function of its name in the module of its name."""


class _Grouped(TyperGroup):
    """Lists the commands group by group, as Typer does only with Rich, whose import would double the time it takes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        widest = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            found = [(name.ljust(widest), self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name, command.get_short_help_str(limit=1000)) for name, command in found if command]
                )


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The program with its commands; with no other than the one that these arguments begin with.

    Every command waits for this, and to import all of them and to read their options takes most of it.
    """
    app = typer.Typer(
        name="elastic",
        cls=_Grouped,
        help="Train on cheap, interruptible GPUs: jobs size themselves by measured utilisation "
        "and survive interruptions.",
        epilog="Exit codes: 0 done · 1 failed · 2 wrong command or job.yaml · 3 cancelled or timed out · "
        "4 credentials · 5 the job failed · 130 interrupted",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
    )
    app.callback(invoke_without_command=True)(elastic)
    for name in [name for name in arguments[:1] if name in COMMANDS] or COMMANDS:
        module = import_module(f"orchestrator.cli.commands.{_ANOTHERS_MODULE.get(name, name)}")
        app.command(name, hidden=name in HIDDEN)(getattr(module, name))
    return app


def elastic(
    context: typer.Context,
    store: StoreOption = None,
    show_version: Annotated[bool, flag("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Options that every command understands."""
    context.obj = Invocation(environ=dict(os.environ), store_url=store)
    if show_version:
        from orchestrator.cli.commands.version import installed_version

        print(installed_version())
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
