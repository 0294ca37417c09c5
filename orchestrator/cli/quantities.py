"""Durations on the command line, written as in job.yaml."""

import typer


def parse_seconds(value: str | float) -> float:
    """Seconds of '10m'; a mistake is the command's, and says how to write it."""
    from orchestrator.spec.units import parse_duration

    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
