"""What goes on before the first step, told now and then: a long look at many images is no stall."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.progress import ProgressLog, UtcNow
from trainer.world import World

TELL_EVERY_S = 10.0
TELL_FOR_S = 4 * 3600.0
"""What takes longer hangs, as far as anyone can tell: let it be taken for a stall."""


@contextmanager
def told(what: str, run_dir: Path, world: World, now: UtcNow) -> Iterator[None]:
    """While it is entered, the first rank of each machine writes every ten seconds for how long it has lasted.

    Whoever waits for a download or for another rank's look at the images learns from it that this run is alive.
    """
    if not world.reports:
        yield
        return
    done = threading.Event()

    def tell() -> None:
        elapsed_s = 0.0
        while elapsed_s < TELL_FOR_S and not done.wait(TELL_EVERY_S):
            elapsed_s += TELL_EVERY_S
            log = ProgressLog(run_dir / "progress.jsonl", now)
            log.activity(f"{what}, for {elapsed_s:g} s")
            log.close()

    teller = threading.Thread(target=tell, name="activity", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
