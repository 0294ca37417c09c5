"""Workers that stand still while no controller does anything about it: they must not cost money for ever."""

PATIENCE = 2.0
"""Of the job's `limits.stall`, after which a controller starts the workers again: it has had its time by then."""
LEAST_S = 300.0


class Standstill:
    """How long a generation's workers have shown no sign of life: no other state, no step, no new activity."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._stand: tuple[object, ...] = ()

    def look(self, now: float, stand: tuple[object, ...], stall_after_s: float) -> str | None:
        """Take in where the workers are; why the agent should leave, if they have been there for too long."""
        if stand != self._stand:
            self._stand, self._since = stand, now
        seconds = now - self._since
        if seconds < PATIENCE * stall_after_s + LEAST_S:
            return None
        return f"the workers have stood still for {seconds:.0f} s, and no controller has ended them"
