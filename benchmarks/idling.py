"""What a controller costs that has nothing to do, with a store that remembers some jobs."""

import time
from pathlib import Path

import psutil

from benchmarks.figures import Figure, Findings, Target
from benchmarks.place import Place, until

JOBS = 50
WATCHED_S = 30.0
SETTLING_S = 3.0
MB = 1e6


def measure(runs: int, root: Path) -> Findings:  # noqa: ARG001 - one look of 30 s says what three would
    """Processor time and memory of an idle daemon."""
    directory = root / "idling"
    directory.mkdir()
    with Place.below(directory) as place:
        place.submit_pending(JOBS)
        place.cancel_all()
        with place.daemon() as daemon:
            until(place.all_over, f"{JOBS} jobs are cancelled", place.story)
            time.sleep(SETTLING_S)
            process = psutil.Process(daemon.pid)
            before_s, start_s = _processor_s(process), time.monotonic()
            time.sleep(WATCHED_S)
            share = 100 * (_processor_s(process) - before_s) / (time.monotonic() - start_s)
            memory = process.memory_full_info()
    name = f"idle daemon, {JOBS} jobs that are over"
    return Findings(
        (
            Figure(f"{name}: share of a core over {WATCHED_S:g} s", "%", (share,), Target(at_most=1)),
            Figure(f"{name}: resident memory", "MB", (memory.rss / MB,), Target(at_most=150)),
            Figure(f"{name}: of which its own (PSS)", "MB", (memory.pss / MB,)),
        )
    )


def _processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
