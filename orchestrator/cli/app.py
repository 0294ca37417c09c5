"""The commands by name, in the order and groups in which `elastic --help` shows them."""

import os
from typing import Annotated

import typer

from orchestrator.cli.commands import (
    agent,
    bootstrap,
    cancel,
    cost,
    daemon,
    dashboard,
    doctor,
    events,
    explain,
    fetch,
    follow,
    init,
    instances,
    logs,
    pause,
    pool,
    ps,
    reap,
    rehearse,
    resize,
    rm,
    schema,
    show,
    simulate,
    submit,
    validate,
    version,
    wait,
)
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import StoreOption, flag

WATCH, CHANGE, WRITE, RUN = "Submit and watch", "Change", "job.yaml", "Machinery"

app = typer.Typer(
    name="elastic",
    help="Train on cheap, interruptible GPUs: jobs size themselves by measured utilisation and survive interruptions.",
    epilog="Exit codes: 0 done · 1 failed · 2 wrong command or job.yaml · 3 cancelled or timed out · 4 credentials · "
    "5 the job failed · 130 interrupted",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
)


@app.callback(invoke_without_command=True)
def elastic(
    context: typer.Context,
    store: StoreOption = None,
    show_version: Annotated[bool, flag("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Options that every command understands."""
    context.obj = Invocation(environ=dict(os.environ), store_url=store)
    if show_version:
        print(version.installed_version())
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command("submit", rich_help_panel=WATCH)(submit.submit)
app.command("ps", rich_help_panel=WATCH)(ps.ps)
app.command("show", rich_help_panel=WATCH)(show.show)
app.command("follow", rich_help_panel=WATCH)(follow.follow)
app.command("logs", rich_help_panel=WATCH)(logs.logs)
app.command("events", rich_help_panel=WATCH)(events.events)
app.command("explain", rich_help_panel=WATCH)(explain.explain)
app.command("dashboard", rich_help_panel=WATCH)(dashboard.dashboard)
app.command("instances", rich_help_panel=WATCH)(instances.instances)
app.command("pool", rich_help_panel=WATCH)(pool.pool)
app.command("cost", rich_help_panel=WATCH)(cost.cost)
app.command("wait", rich_help_panel=WATCH)(wait.wait)
app.command("fetch", rich_help_panel=WATCH)(fetch.fetch)
app.command("cancel", rich_help_panel=CHANGE)(cancel.cancel)
app.command("pause", rich_help_panel=CHANGE)(pause.pause)
app.command("resume", rich_help_panel=CHANGE)(pause.resume)
app.command("resize", rich_help_panel=CHANGE)(resize.resize)
app.command("rm", rich_help_panel=CHANGE)(rm.rm)
app.command("reap", rich_help_panel=CHANGE)(reap.reap)
app.command("init", rich_help_panel=WRITE)(init.init)
app.command("rehearse", rich_help_panel=WRITE)(rehearse.rehearse)
app.command("validate", rich_help_panel=WRITE)(validate.validate)
app.command("schema", rich_help_panel=WRITE)(schema.schema)
app.command("bootstrap", rich_help_panel=RUN)(bootstrap.bootstrap)
app.command("daemon", rich_help_panel=RUN)(daemon.daemon)
app.command("agent", rich_help_panel=RUN)(agent.agent)
app.command("doctor", rich_help_panel=RUN)(doctor.doctor)
app.command("simulate", rich_help_panel=RUN, hidden=True)(simulate.simulate)
app.command("version", rich_help_panel=RUN)(version.version)
