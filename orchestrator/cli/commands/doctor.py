"""`elastic doctor`: what works here, and what to do about what does not."""

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import OutputOption, StoreOption
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say


def doctor(context: typer.Context, output: OutputOption = Format.TABLE, store: StoreOption = None) -> None:
    """Check what works here, and say what to do about the rest.

    Python, torch, GPUs, disk, the store and its conditional writes, Docker, AWS.
    On a store on s3:// it writes and removes some dozens of small objects and a file of 32 MiB, which comes back again.
    Exits with 1 if something fails that jobs on this store need.
    """
    from orchestrator.cli.checks import Finding, Verdict, checks_for, run_checks
    from orchestrator.cli.findings_table import findings_table, working_on

    invocation = Invocation.of(context)
    checks = checks_for(invocation, store)
    with working_on("looking at this machine") if output.for_people else working_on(None):
        findings: list[Finding] = run_checks(checks)
    emit(
        output,
        data=lambda: [finding.as_data() for finding in findings],
        names=lambda: [finding.name for finding in findings if finding.verdict is Verdict.FAIL],
        table=lambda: findings_table(findings),
    )
    failed = [finding for finding in findings if finding.verdict is Verdict.FAIL]
    if failed:
        say(f"{len(failed)} of {len(findings)} checks failed; jobs cannot run here until that is mended.")
        raise typer.Exit(1)
