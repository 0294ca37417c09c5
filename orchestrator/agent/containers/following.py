"""What a rank prints, followed from its container into a file, also over a restart of the engine.

The engine gives each line its time, to the nanosecond, and the parts of a long line all the same one. Whoever has to
ask again asks from the second of the last time on, and passes over what was written already.
"""

import re
import struct
import threading
import time
from collections.abc import Callable
from datetime import datetime
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.fleets.engine import is_absence, is_refusal

if TYPE_CHECKING:
    from docker import DockerClient

ASK_AGAIN_AFTER_S = 0.5
GIVE_UP_AFTER_S = 30.0
"""Of the last lines, when the engine does not give them."""
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")


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
        """The time of what was written last."""
        self._at_last = 0
        """How much of that time was written: lines, or parts of one."""
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
        give_up = None
        with open(self._path, "ab", buffering=0) as file:
            while give_up is None or time.monotonic() < give_up:
                last_time = self._finishing.is_set()
                whole = self._take_lines(file)
                self._ended()
                if last_time and whole:
                    return
                if not last_time:
                    self._finishing.wait(ASK_AGAIN_AFTER_S)
                    continue
                give_up = give_up or time.monotonic() + GIVE_UP_AFTER_S
                time.sleep(ASK_AGAIN_AFTER_S)

    def _take_lines(self, file: RawIOBase) -> bool:
        """Until the stream ends; whether there is no more to be had."""
        from docker.errors import NotFound

        since, written = self._last, self._at_last
        try:
            for part in self._client.api.logs(
                self._container_id,
                stdout=self._stream == "stdout",
                stderr=self._stream == "stderr",
                stream=True,
                follow=True,
                timestamps=True,
                since=_second_of(since),
            ):
                at, _, text = part.partition(b" ")
                if not _TIME.fullmatch(at) or at < since:  # what has no time is the engine's own word, not the rank's
                    continue
                if at == since and written:
                    written -= 1
                    continue
                file.write(text)
                self._at_last = self._at_last + 1 if at == self._last else 1
                self._last = at
        except NotFound:  # removed, and its lines with it
            return True
        except (OSError, struct.error):  # the disk is full; a stream that broke off within its own signs
            return False
        except Exception as error:
            if not (is_absence(error) or is_refusal(error)):
                raise
            return False
        return True


def _second_of(at: bytes) -> int | None:
    """Seconds since 1970 of a time such as 2026-11-28T17:29:08.552079149Z; of none, None."""
    return int(datetime.fromisoformat(at[:19].decode() + "+00:00").timestamp()) if at else None
