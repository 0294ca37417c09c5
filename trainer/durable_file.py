"""A file of a checkpoint: written once from its beginning to its end, hashed on the way, on the disk when closed."""

import hashlib
import os
from functools import partial
from pathlib import Path
from types import TracebackType

from trainer.priority import Do, at_once

PIECE_BYTES = 4 * 2**20
"""Hashed and written at a time: a few milliseconds' work."""
_SMALL_BYTES = 2**20
"""What comes in smaller parts is collected."""


class DurableFile:
    """A new file, closed by `with`, which raises the OSError that a write met, whatever whoever wrote made of that.

    do: how each piece of the work is done.
    """

    def __init__(self, path: Path, do: Do = at_once) -> None:
        self._do = do
        self._sha256 = hashlib.sha256()
        self._collected = bytearray()
        self._failure: OSError | None = None
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by `with`

    @property
    def sha256(self) -> str:
        """Of what has reached the file, in hexadecimal: of all of it once it is closed."""
        return self._sha256.hexdigest()

    def write(self, data: bytes | memoryview) -> int:
        """Take more of the content."""
        if len(data) < _SMALL_BYTES:
            self._collected += data
            if len(self._collected) >= _SMALL_BYTES:
                self._send_collected()
        else:
            self._send_collected()
            for begin in range(0, len(data), PIECE_BYTES):
                self._do(partial(self._send, memoryview(data)[begin : begin + PIECE_BYTES]))
        return len(data)

    def flush(self) -> None:
        """Part of being a file: what is held back here is sent when the file is closed."""

    def __enter__(self) -> "DurableFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if self._failure is not None and error is not self._failure:
                raise self._failure
            if error is None:
                self._send_collected()
                self._do(partial(os.fsync, self._file.fileno()))

    def _send_collected(self) -> None:
        collected, self._collected = self._collected, bytearray()
        if collected:
            self._do(partial(self._send, memoryview(collected)))

    def _send(self, piece: memoryview) -> None:
        self._sha256.update(piece)
        try:
            while piece:
                piece = piece[os.write(self._file.fileno(), piece) :]
        except OSError as error:
            self._failure = error
            raise
