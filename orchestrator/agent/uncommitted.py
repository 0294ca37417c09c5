"""Training that goes on while nothing of it is committed: all of it would be lost, so it is told."""

LEAST_S = 600.0
INTERVALS = 5
"""Of checkpoints that did not become the head."""
AGAIN_AFTER_S = 3600.0


class Uncommitted:
    """How long there have been steps since the last commit, and when that is to be told."""

    def __init__(self, checkpoint_every_s: float) -> None:
        self.complaint = ""
        """What is to be shown as long as it lasts."""
        self._bound_s = max(INTERVALS * checkpoint_every_s, LEAST_S)
        self._since: float | None = None
        self._committed: int | None = None
        self._tell_at = 0.0

    def look(self, now: float, step: int | None, committed: int | None, hindrance: str) -> str | None:
        """Take in how far the trainer and its commits are; what is to be told now, after a while and every hour.

        `now` is monotonic; `hindrance` says what keeps the newest checkpoint from being committed.
        """
        if committed != self._committed:
            self._committed, self._since = committed, None
        if step is not None and step > (committed or 0) and self._since is None:
            self._since, self._tell_at = now, now + self._bound_s
        seconds = self.seconds(now)
        self.complaint = f"nothing was committed for {seconds:.0f} s: {hindrance}" if seconds >= self._bound_s else ""
        if self._since is None or now < self._tell_at:
            return None
        self._tell_at = now + AGAIN_AFTER_S
        return f"training goes on, but nothing of it was committed for {seconds:.0f} s: {hindrance}"

    def seconds(self, now: float) -> float:
        """How long there have been steps that are not committed."""
        return 0.0 if self._since is None else now - self._since
