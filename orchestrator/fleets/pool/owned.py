"""What runs on the machines of the pool, whoever knows of it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from orchestrator.fleets.owned import Owned
from orchestrator.fleets.pool.fleet import PoolFleet
from orchestrator.fleets.pool.listing import read_pool


class OwnedInPool:
    """Instances that were ordered from machines of the pool, neither called off nor known to have ended."""

    def __init__(self, fleet: PoolFleet) -> None:
        self._fleet = fleet

    def owned(self) -> Sequence[Owned]:
        """Also those of machines that are not heard now."""
        now = self._fleet.now()
        return [
            Owned(
                id=name,
                instance=name,
                where=f"the pool, {look.report.machine}",
                instance_type="pool",
                zone="",
                market="on_demand",
                since=_since(now, hosted.lived_s if hosted is not None else None),
                usd_per_hour=0.0,
            )
            for look in read_pool(self._fleet.store, now)
            for name, hosted in look.instances.items()
            if name not in look.ending
        ]

    def end(self, id: str) -> None:
        """By calling its order off."""
        self._fleet.terminate(id)


def _since(now: datetime, lived_s: float | None) -> datetime:
    return now - timedelta(seconds=lived_s or 0.0)
