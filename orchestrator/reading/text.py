"""Values as a person reads them: times, durations, shares, counts, money."""

from datetime import datetime

NOTHING = "–"
"""What stands where there is no value yet."""


def share(value: float | None, digits: int = 1) -> str:
    """A share of one in percent: 0.953 is '95.3 %'."""
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def percent(value: float | None) -> str:
    """Whole percent: 87.6 is '88 %'."""
    return NOTHING if value is None else f"{value:.0f} %"


def duration(seconds: float | None) -> str:
    """The two largest units: '8s', '1m 12s', '3h 05m', '2d 4h'."""
    if seconds is None:
        return NOTHING
    whole = max(0, round(seconds))
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d {h}h"
    if hours:
        return f"{hours}h {m:02}m"
    return f"{minutes}m {s:02}s" if minutes else f"{s}s"


def age(then: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit alone: '12s', '5m', '3h', '8d'."""
    if then is None:
        return NOTHING
    seconds = max(0, round((now - then).total_seconds()))
    for unit, unit_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= unit_s:
            return f"{seconds // unit_s}{unit}"
    return f"{seconds}s"


def local_time(at: datetime | None, now: datetime) -> str:
    """Short and in the reader's own time zone; the date only when it is not today's."""
    if at is None:
        return NOTHING
    local = at.astimezone()
    return f"{local:%H:%M:%S}" if local.date() == now.astimezone().date() else f"{local:%Y-%m-%d %H:%M:%S}"


def utc_time(at: datetime) -> str:
    """For logs: UTC to the second, ISO 8601."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def speed(samples_per_second: float | None, *, own_program: bool) -> str:
    """Of elastic's own trainer, samples are images; what those of another program are, only it knows."""
    return f"{number(samples_per_second)} {'samples' if own_program else 'images'}/s"


def count(number: int, thing: str) -> str:
    """A number with its noun: '1 worker', '2 workers', '1,200 steps'."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def usd(amount: float) -> str:
    """Money: cents, or as many digits as a small amount needs to be seen."""
    return f"${amount:.2f}" if amount == 0 or amount >= 0.01 else f"${amount:.4f}"


def number(value: float | None) -> str:
    """A loss or a rate in few digits: '0.412', '12.3', '1,240'."""
    if value is None:
        return NOTHING
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:,.0f}"
    if magnitude >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if magnitude >= 0.001 or value == 0 else f"{value:.1e}"


def size(size_bytes: int) -> str:
    """Bytes in the unit that keeps the number short: '42.7 MiB'."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


STARVED_ABOVE = 0.1
"""From this share of time on, waiting for images is what keeps a job slow."""


def starved(data_wait: float | None) -> str:
    """'waits for images 34 % of the time', which tells a starved job from an idle one; empty when it hardly does."""
    if data_wait is None or data_wait <= STARVED_ABOVE:
        return ""
    return f"waits for images {share(data_wait, 0)} of the time"


SOURCES = {"nvml": "GPU by NVML", "cpu": "CPU"}
"""Where a utilisation figure comes from, for a person."""
