"""How many histories the simulator lives through in a minute, and how much virtual time that is.

    python -m benchmarks.simulator [--histories 2000] [--processes 2]

The real controller and the real agents on a virtual clock, with all faults; each history ends when every job has come
to its end. The target is 10,000 in 5 minutes on two cores, which is 60 ms of one core for each.
"""

import argparse
import os
import resource
import time
from collections import Counter
from datetime import UTC, datetime

from benchmarks.conditions import conditions
from orchestrator.simulator.fuzz import replay_command, run_seeds

TARGET_MS = 60.0


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--histories", type=int, default=2000)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    started_at, load = datetime.now(UTC), os.getloadavg()[0]
    began_s = time.perf_counter()
    virtual_s, events, faults, broken = 0.0, 0, Counter[str](), []
    seeds = range(chosen.seed, chosen.seed + chosen.histories)
    for outcome in run_seeds(seeds, processes=chosen.processes):
        virtual_s += outcome.virtual_s
        events += outcome.events
        faults.update(outcome.faults)
        broken += [outcome.seed] if outcome.violation else []
    seconds = time.perf_counter() - began_s
    used_s = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print("| figure | value |\n|---|---|")
    print(f"| histories | {chosen.histories:,} in {seconds:.0f} s by {chosen.processes} processes |")
    print(f"| a history | {1000 * used_s / chosen.histories:.1f} ms of a core (target {TARGET_MS:.0f}) |")
    print(f"| 10,000 histories | {10_000 * seconds / chosen.histories:.0f} s (target 300) |")
    print(f"| virtual time | {virtual_s / 3600:,.0f} hours, {events / 1e6:.1f} million events |")
    print(f"| faults | {sum(faults.values()):,} of {len(faults)} kinds |")
    print(f"| violations | {len(broken)} {', '.join(map(replay_command, broken[:5]))} |")
    for name, value in conditions("python -m benchmarks.simulator", started_at, load, 1):
        print(f"| {name} | {value} |")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
