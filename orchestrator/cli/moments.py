"""Moments on the command line: so long ago, a time of day, or a date."""

from datetime import datetime, time, timedelta

from orchestrator.errors import UsageError


def parse_moment(value: str, now: datetime) -> datetime:
    """'10m' is ten minutes ago; '14:03' the last time that the clock here showed it; else a date as in ISO 8601.

    Raises UsageError, which says how to write it.
    """
    from orchestrator.spec.units import parse_duration

    local = now.astimezone()
    try:
        if "-" in value:
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo is not None else moment.astimezone()
        if ":" in value:
            moment = datetime.combine(local.date(), time.fromisoformat(value), local.tzinfo)
            return moment if moment <= local else moment - timedelta(days=1)
        return now - timedelta(seconds=parse_duration(value))
    except ValueError as error:
        raise UsageError(
            f"--since: '{value}' is no moment; write 10m for ten minutes ago, 14:03, or 2026-01-31T14:03"
        ) from error
