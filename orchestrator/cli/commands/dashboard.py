"""`elastic dashboard`: the web page, on this machine alone."""

from functools import partial
from typing import Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import StoreOption, flag
from orchestrator.cli.prose import complain, on_terminal, say, warn

PORT = 8642


def dashboard(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, metavar="PORT", help="Where it listens; 0: any free port.")
    ] = PORT,
    no_open: Annotated[bool, flag("--no-open", help="Open no browser.")] = False,
    in_container: Annotated[
        bool,
        flag("--in-container", help="Be reachable from outside of the container that this runs in; refused elsewhere."),
    ] = False,
    store: StoreOption = None,
) -> None:
    """Show the jobs as a web page, on this machine only.

    It reads the store while a page is open, and changes nothing. Ctrl-C ends it.
    """
    import webbrowser

    from orchestrator.dashboard.app import application
    from orchestrator.dashboard.pages import Pages
    from orchestrator.dashboard.serving import listen, server

    invocation = Invocation.of(context)
    pages = Pages(invocation.open_store(store), invocation.now, invocation.monotonic)
    with listen(port, in_container=in_container) as listening:
        port = listening.getsockname()[1]
        url = f"http://127.0.0.1:{port}/"
        print(url, flush=True)
        if in_container:
            warn(
                f"whoever reaches port {port} of this container sees the jobs, without a password: publish it on "
                f"loopback alone, as in --publish 127.0.0.1:{port}:{port}"
            )
        say(f"The jobs in {pages.store.url} are shown there. Ctrl-C ends it.")
        if not no_open and _has_screen(invocation):
            webbrowser.open(url)
        server(application(pages, port, partial(_confess, invocation=invocation))).run(sockets=[listening])


def _has_screen(invocation: Invocation) -> bool:
    """Whether somebody sits here in front of a screen: a browser in the terminal itself would be in the way."""
    return on_terminal() and bool(invocation.environ.get("DISPLAY") or invocation.environ.get("WAYLAND_DISPLAY"))


def _confess(fault: Exception, invocation: Invocation) -> None:
    complain(f"this is a fault of elastic, not yours, and one page was not answered: {type(fault).__name__}: {fault}")
    if invocation.environ.get("ELASTIC_DEBUG") == "1":
        import traceback

        traceback.print_exception(fault)
