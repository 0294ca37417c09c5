"""Where the ranks of one machine wait for each other: a byte through a pipe from each to each.

Who waits sleeps in the kernel, and the byte wakes it. A process group's barrier wakes a thread of its own first, in
every process, and where the ranks keep all processors busy such a thread has to wait for one. Who dies closes its pipes
by that, so that nobody waits for it.
"""

import os
from collections.abc import Mapping, Sequence

from trainer.world import lost_contact

ENDED = "one of them has ended"


class Outgoing:
    """A pipe to each of the other ranks, of which they open the ends to read from."""

    def __init__(self, rank: int, size: int) -> None:
        pipes = {other: os.pipe() for other in range(size) if other != rank}
        self.to_read = {other: read for other, (read, _) in pipes.items()}
        self.to_write = [write for _, write in pipes.values()]

    def opened(self) -> None:
        """The others have opened their ends: close them here, so that they see when they are the only ones."""
        for end in self.to_read.values():
            os.close(end)

    def close(self) -> None:
        """Have no pipes."""
        self.opened()
        for end in self.to_write:
            os.close(end)


def open_incoming(rank: int, others: Sequence[tuple[int, Mapping[int, int]]]) -> list[int] | None:
    """Open the ends that are meant for this rank, of processes with these ids and `to_read`; None if that fails."""
    ends: list[int] = []
    try:
        for pid, to_read in others:
            ends.append(os.open(f"/proc/{pid}/fd/{to_read[rank]}", os.O_RDONLY))
    except OSError:  # another user, or a kernel that forbids it
        for end in ends:
            os.close(end)
        return None
    return ends


class Barrier:
    """All ranks' `wait` returns when all have called it."""

    def __init__(self, incoming: Sequence[int], outgoing: Sequence[int]) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    def wait(self) -> None:
        """Raises TrainerError when a rank has ended."""
        try:
            for end in self._outgoing:
                os.write(end, b".")
        except BrokenPipeError:
            raise lost_contact(ENDED) from None
        if not all(os.read(end, 1) for end in self._incoming):
            raise lost_contact(ENDED)
