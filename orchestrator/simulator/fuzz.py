"""Many histories, on all processors; the first violation of each is enough to replay it."""

import gc
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from orchestrator.simulator.history import Outcome, run_history
from orchestrator.simulator.mutations import mutated

BATCH = 25


def run_seeds(seeds: Sequence[int], *, mutation: str | None = None, processes: int | None = None) -> Iterator[Outcome]:
    """Live through the histories of these seeds, in order; whoever has seen enough stops taking."""
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        with mutated(mutation):
            yield from map(run_history, seeds)
        return
    with ProcessPoolExecutor(processes, initializer=_collect_rarely) as pool:
        try:
            batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
            for outcomes in pool.map(_run_batch, batches, [mutation] * len(batches)):
                yield from outcomes
        finally:
            pool.shutdown(cancel_futures=True)


def _collect_rarely() -> None:
    """A history makes much that goes at once, and little of it in circles: looking for those took 7 % of the time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _run_batch(seeds: Sequence[int], mutation: str | None) -> list[Outcome]:
    with mutated(mutation):
        return [run_history(seed) for seed in seeds]


def replay_command(seed: int, mutation: str | None = None) -> str:
    """What to type to read a seed's story."""
    return f"elastic simulate --seed {seed}" + (f" --mutate {mutation}" if mutation else "")
