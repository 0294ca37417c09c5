"""What a rank prints, followed from its container into a file, also over a restart of the engine.

The engine gives each line its time, to the nanosecond. Whoever has to ask again asks from the second of the last line
on, and passes over what was written already.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.fleets.engine import is_absence

if TYPE_CHECKING:
    from docker import DockerClient

ASK_AGAIN_AFTER_S = 0.5


class Follower:
    """One of the two streams of one container; a thread of its own, for it waits for lines."""

    def __init__(
        self,
        client: "DockerClient",
        container_id: str,
        stream: Literal["stdout", "stderr"],
        path: Path,
        ended: Callable[[], None],
    ) -> None:
        """`ended` is told whenever the stream ends: the container has ended, or the engine is away."""
        self._client = client
        self._container_id = container_id
        self._stream = stream
        self._path = path
        self._ended = ended
        self._last = b""
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{stream}", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """After `finish`: whether all is written."""
        return not self._thread.is_alive()

    def finish(self) -> None:
        """The container has ended: what is left of its lines is the last."""
        self._finishing.set()

    def _run(self) -> None:
        with open(self._path, "ab", buffering=0) as file:
            while True:
                last_time = self._finishing.is_set()
                whole = self._take_lines(file.write)
                self._ended()
                if last_time and whole:
                    return
                self._finishing.wait(ASK_AGAIN_AFTER_S)

    def _take_lines(self, write: Callable[[bytes], object]) -> bool:
        """Until the stream ends; whether there is no more to be had."""
        from docker.errors import APIError, NotFound

        try:
            for line in self._client.api.logs(
                self._container_id,
                stdout=self._stream == "stdout",
                stderr=self._stream == "stderr",
                stream=True,
                follow=True,
                timestamps=True,
                since=_second_of(self._last),
            ):
                time, _, text = line.partition(b" ")
                if time > self._last:
                    write(text)
                    self._last = time
        except NotFound:  # removed, and its lines with it
            return True
        except APIError:
            return False
        except Exception as error:
            if not is_absence(error):
                raise
            return False
        return True


def _second_of(time: bytes) -> int | None:
    """Seconds since 1970 of a time such as 2026-11-28T17:29:08.552079149Z; of none, None."""
    return int(datetime.fromisoformat(time[:19].decode() + "+00:00").timestamp()) if time else None
