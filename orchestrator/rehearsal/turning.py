"""Looking after something in a thread, again and again, until it is left."""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.errors import ElasticError

IN_VAIN = 10
"""So often in a row the account may not answer, as on a machine with too much to do."""


class RehearsalBroken(ElasticError):
    """A part of the rehearsal itself has failed: what the job did says nothing then."""


@contextmanager
def turning(name: str, turn: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call `turn` so often while entered. Raises RehearsalBroken at the end if that has failed."""
    stop, failures = threading.Event(), list[str]()

    def look() -> None:
        in_vain = 0
        while not stop.wait(every_s) and not failures:
            try:
                turn()
                in_vain = 0
            except OSError:
                in_vain += 1
                if in_vain > IN_VAIN:
                    failures.append(traceback.format_exc())
            except Exception:  # noqa: BLE001 - whatever it is, it is told by the thread that waits for this one
                failures.append(traceback.format_exc())

    thread = threading.Thread(target=look, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if failures:
            raise RehearsalBroken(f"The rehearsal itself has broken down ({name}):\n{failures[0]}")
