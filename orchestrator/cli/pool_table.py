"""The machines of the pool, as a table."""

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from orchestrator.cli.fitted_table import Column, FittedTable
from orchestrator.fleets.pool.listing import PoolMachine
from orchestrator.reading import text

_STYLES = {"ready": "green", "leaving": "yellow", "silent": "red", "gone": "bright_black"}


def _gpus(machine: PoolMachine) -> str:
    return ", ".join(f"{many} × {kind}" for kind, many in machine.kinds.items()) or text.NOTHING


def _free(machine: PoolMachine) -> str:
    """Of what jobs are given here: GPUs or, without any, cores."""
    if machine.state == "gone":
        return text.NOTHING
    if machine.report.gpus:
        return f"{len(machine.free.gpus)} of {text.count(len(machine.report.gpus), 'GPU')}"
    return f"{machine.free.cores} of {text.count(machine.report.cores, 'core')}"


def _memory(machine: PoolMachine) -> str:
    sizes = sorted({gpu.memory_bytes for gpu in machine.report.gpus})
    return ", ".join(text.size(size) for size in sizes) or text.NOTHING


def _labels(machine: PoolMachine) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(machine.report.labels.items())) or text.NOTHING


COLUMNS: tuple[Column[PoolMachine], ...] = (
    Column("MACHINE", lambda machine, _: machine.report.machine),
    Column("STATE", lambda machine, _: Text(machine.state, style=_STYLES[machine.state])),
    Column("GPUS", lambda machine, _: _gpus(machine), spare=2),
    Column("CORES", lambda machine, _: str(machine.report.cores), numeric=True, spare=3),
    Column("FREE", lambda machine, _: _free(machine)),
    Column("JOBS", lambda machine, _: ", ".join(machine.jobs) or text.NOTHING),
    Column("SEEN", lambda machine, _: f"{text.duration(machine.seen_s)} ago", numeric=True, spare=1),
)
WIDE_COLUMNS: tuple[Column[PoolMachine], ...] = (
    Column("MEMORY", lambda machine, _: _memory(machine)),
    Column("LABELS", lambda machine, _: _labels(machine)),
    Column("ADDRESS", lambda machine, _: machine.report.address),
    Column("INSTANCES", lambda machine, _: ", ".join(sorted(machine.held)) or text.NOTHING),
    Column("JOINED", lambda machine, now: text.local_time(machine.report.joined_at, now)),
    Column("HOST", lambda machine, _: f"{machine.report.host.label}, process {machine.report.host.pid}"),
)


def pool_table(machines: Sequence[PoolMachine], now: datetime, *, wide: bool) -> FittedTable[PoolMachine]:
    """A line for each machine."""
    return FittedTable(machines, COLUMNS + (WIDE_COLUMNS if wide else ()), now)
