"""`elastic simulate`: the real controller and agents where everything goes wrong; for who works on elastic."""

from typing import Annotated

import typer

from orchestrator.cli.exit_codes import EXIT_FAILED

KINDS_SHOWN = 45


def simulate(
    fuzz: Annotated[
        int, typer.Option("--fuzz", min=0, metavar="N", help="Live through so many histories; 0: tell one.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="The first seed, or the only one.")] = 0,
    mutate: Annotated[
        str | None,
        typer.Option("--mutate", metavar="NAME", help="Break elastic in this way first.", show_default=False),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="How many at a time; without: one for each processor.")
    ] = None,
) -> None:
    """Look for histories that must not be: seeds that break an invariant, or the story of one seed."""
    from orchestrator.simulator.history import run_history
    from orchestrator.simulator.mutations import mutated

    if fuzz:
        raise typer.Exit(_fuzz(range(seed, seed + fuzz), mutate, processes))
    with mutated(mutate):
        outcome = run_history(seed, tell=True)
    for line in outcome.story:
        print(line)
    print(f"after {outcome.virtual_s / 60:.0f} minutes: {', '.join(outcome.phases)}")
    if outcome.violation:
        print(f"VIOLATION: {outcome.violation}")
        raise typer.Exit(EXIT_FAILED)


def _fuzz(seeds: range, mutation: str | None, processes: int | None) -> int:
    """Run them all; prints each violation with the command that tells its story, then what happened how often."""
    import sys
    import time
    from collections import Counter

    from orchestrator.simulator.fuzz import replay_command, run_seeds

    began_s, violations, done = time.monotonic(), 0, 0
    faults, phases = Counter[str](), Counter[str]()
    for outcome in run_seeds(seeds, mutation=mutation, processes=processes):
        done += 1
        faults.update(outcome.faults)
        phases.update(outcome.phases)
        if outcome.violation:
            violations += 1
            print(f"{outcome.violation}\n    {replay_command(outcome.seed, mutation)}", flush=True)
        if done % 1000 == 0:
            print(f"{done:,} of {len(seeds):,}, {violations} violations", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began_s
    print(f"{violations} violations in {done:,} histories, {seconds:.0f} s ({1000 * seconds / done:.1f} ms each)")
    print("jobs: " + ", ".join(f"{count:,} {phase}" for phase, count in phases.most_common()))
    print("faults:")
    for fault, count in faults.most_common(KINDS_SHOWN):
        print(f"{count:10,}  {fault}")
    return EXIT_FAILED if violations else 0
