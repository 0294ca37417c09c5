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


class Health:
    """Whether all that is looked after in threads still is. May be used by several threads at once."""

    def __init__(self) -> None:
        self._broken = threading.Event()
        self._why = ""

    def broke(self, why: str) -> None:
        """Have whoever sleeps here wake up."""
        self._why = self._why or why
        self._broken.set()

    def sleep(self, seconds: float) -> None:
        """Sleep as long as all is well. Raises RehearsalBroken as soon as it is not."""
        if self._broken.wait(seconds):
            raise RehearsalBroken(self._why)


@contextmanager
def turning(name: str, turn: Callable[[], None], every_s: float, health: Health | None = None) -> Iterator[None]:
    """Call `turn` so often while entered. Raises RehearsalBroken at the end if that has failed.

    `health` is told of it at once.
    """
    stop, failures = threading.Event(), list[str]()

    def fail() -> None:
        failures.append(f"The rehearsal itself has broken down ({name}):\n{traceback.format_exc()}")
        if health is not None:
            health.broke(failures[0])

    def look() -> None:
        in_vain = 0
        while not stop.wait(every_s) and not failures:
            try:
                turn()
                in_vain = 0
            except OSError:
                in_vain += 1
                if in_vain > IN_VAIN:
                    fail()
            except Exception:  # noqa: BLE001 - whatever it is, it is told by the thread that waits for this one
                fail()

    thread = threading.Thread(target=look, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if failures:
            raise RehearsalBroken(failures[0])
