"""How often things are looked at and told: a directory costs nothing, a bucket bills each request.

A paid bucket at this pace (PUT and LIST $5, GET $0.4 a million) costs an idle controller less than $2 a month, and a
running job about a cent an hour, by counted requests: controller $0.003, the agent's assignment and heartbeats $0.003,
its logs and progress $0.001, and, with a checkpoint each minute, $0.002 for committing and removing and $0.002 for
uploading 134 MB each. What is urgent does not wait for it: news in a heartbeat is told at once, and who leaves
something for the controller rings its bell.
"""

from dataclasses import dataclass

JOB_HOUR_USD = 0.011
"""The sum of these: what the requests for a running job cost an hour, about, where each is billed."""
STORAGE_USD_PER_GB_MONTH = 0.023
"""S3 Standard, us-east-1, November 2026."""

_HOURS_A_MONTH = 730.0


def bucket_usd(instance_hours: float, stored_bytes: float, stored_hours: float) -> float:
    """About what a billed bucket takes for a job: for its requests, and for what lies there for so long."""
    stored_months = stored_hours / _HOURS_A_MONTH
    return JOB_HOUR_USD * instance_hours + STORAGE_USD_PER_GB_MONTH * stored_bytes / 1e9 * stored_months


@dataclass(frozen=True)
class Pace:
    """Seconds between two looks, or two words."""

    tick_s: float
    """The controller, while jobs are alive."""
    quiet_tick_s: float
    """The same while all of them do nothing but train: each look takes a moment from the training, if it is here."""
    idle_tick_s: float
    """The controller, while none is: it asks for the bell."""
    scan_s: float
    """The controller lists what is to be done so often while jobs are alive, without being rung for."""
    idle_scan_s: float
    """The same while none is."""
    assignment_s: float
    """The agent, its assignment."""
    heartbeat_s: float
    """The agent, its heartbeat when there is no news."""
    job_check_s: float
    """The agent, whether its job is over."""
    ship_logs_s: float
    """The agent, what its workers have printed."""


QUICK = Pace(
    tick_s=0.25,
    quiet_tick_s=0.5,
    idle_tick_s=0.5,
    scan_s=1.0,
    idle_scan_s=5.0,
    assignment_s=0.25,
    heartbeat_s=1.0,
    job_check_s=5.0,
    ship_logs_s=2.0,
)
THRIFTY = Pace(
    tick_s=2.0,
    quiet_tick_s=2.0,
    idle_tick_s=2.0,
    scan_s=60.0,
    idle_scan_s=300.0,
    assignment_s=2.0,
    heartbeat_s=10.0,
    job_check_s=60.0,
    ship_logs_s=30.0,
)


def pace_of(billed: bool) -> Pace:
    """The pace for a store that is billed by the request, or is not (`Store.billed`)."""
    return THRIFTY if billed else QUICK
