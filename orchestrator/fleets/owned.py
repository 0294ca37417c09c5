"""Everything that fleets have for a store, whoever knows of it: so that what belongs to no job is found, and ended."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.fleets.local import remove_containers_of, work_directories
from orchestrator.fleets.processes import end_marked_processes, processes_by_marker
from orchestrator.fleets.protocol import Market
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import StoreIdentity
from orchestrator.jobs.cloud_account import ACCOUNT_KEY
from orchestrator.spec.instance_types import GPU_TYPES
from orchestrator.store import document
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Store

if TYPE_CHECKING:
    from orchestrator.fleets.ec2.fleet import Ec2Fleet

GRACE_S = 5.0
"""How long processes that belong to no job may take to end by themselves."""


@dataclass(frozen=True)
class Owned:
    """An instance that a fleet has for a store now."""

    id: str
    """What the fleet calls it."""
    instance: str
    """The name that it was launched under; empty where nothing tells."""
    where: str
    """For a person."""
    instance_type: str
    zone: str
    market: Market
    since: datetime
    usd_per_hour: float | None
    """None: nobody tells."""


class Holdings(Protocol):
    """What a fleet has for a store. Each method may raise `ElasticError`."""

    def owned(self) -> Sequence[Owned]:
        """All of it."""
        ...

    def end(self, id: str) -> None:
        """End one, whatever its name. Nothing to do if it is gone."""
        ...


class OwnedHere:
    """Processes on this machine that carry the mark of a work directory of the store's."""

    def __init__(self, root: Path, environ: Mapping[str, str] = os.environ) -> None:
        """`root` has the work directories."""
        self._root = root
        self._environ = environ

    def owned(self) -> Sequence[Owned]:
        """One for each work directory for which anything runs, whether it is there or not."""
        of_store = {Path(marker): found for marker, found in processes_by_marker().items()}
        return [
            Owned(
                id=path.name,
                instance=path.name,
                where="this machine",
                instance_type="local",
                zone="",
                market="on_demand",
                since=datetime.fromtimestamp(min(process.create_time() for process in found), UTC),
                usd_per_hour=0.0,
            )
            for path, found in sorted(of_store.items())
            if path.parent == self._root
        ]

    def end(self, id: str) -> None:
        """With all that it has started."""
        end_marked_processes(str(self._root / id), GRACE_S)
        remove_containers_of(self._root / id, self._environ)


class OwnedInAccount:
    """Instances of EC2 with the store's tag."""

    def __init__(self, fleet: "Ec2Fleet") -> None:
        self._fleet = fleet

    def owned(self) -> Sequence[Owned]:
        """Those that nobody has ended: from then on AWS takes nothing. What a spot instance costs, EC2 does not say."""
        prices = {known.name: known.usd_per_hour for known in GPU_TYPES}
        return [
            Owned(
                id=seen.instance_id,
                instance=seen.instance,
                where=f"EC2, {seen.zone}",
                instance_type=seen.instance_type,
                zone=seen.zone,
                market=seen.market,
                since=seen.launched_at,
                usd_per_hour=prices.get(seen.instance_type) if seen.market == "on_demand" else None,
            )
            for seen in self._fleet.owned()
            if not seen.is_ending
        ]

    def end(self, id: str) -> None:
        self._fleet.end(id)


def holdings_of(
    store: Store,
    nonce: Nonce,
    *,
    now: Callable[[], datetime],
    monotonic: Callable[[], float],
    log: Callable[[str], None],
) -> list[Holdings]:
    """Of every fleet that may have anything for a store, as far as it can be asked from here."""
    identity = document.load(store, layout.IDENTITY, StoreIdentity)
    if identity is None:
        return []  # no controller has ever been here
    here = OwnedHere(work_directories(identity.value.nonce))
    in_account = holdings_in_account(store, nonce, now=now, monotonic=monotonic, log=log)
    in_pool = holdings_in_pool(store, nonce, now=now, monotonic=monotonic)
    return [here, *(each for each in (in_account, in_pool) if each is not None)]


def holdings_in_pool(
    store: Store, nonce: Nonce, *, now: Callable[[], datetime], monotonic: Callable[[], float]
) -> Holdings | None:
    """Those on the machines that have joined the store; None: nothing was ever ordered from any."""
    if store.get(layout.POOL_ORDERS) is None:
        return None
    from orchestrator.fleets.pool.fleet import PoolFleet
    from orchestrator.fleets.pool.owned import OwnedInPool

    return OwnedInPool(PoolFleet(store, nonce, now=now, monotonic=monotonic))


def holdings_in_account(
    store: Store,
    nonce: Nonce,
    *,
    now: Callable[[], datetime],
    monotonic: Callable[[], float],
    log: Callable[[str], None],
) -> OwnedInAccount | None:
    """Those in the AWS account that was set up for the store; None: none was."""
    if store.get(ACCOUNT_KEY) is None:
        return None
    from orchestrator.fleets.ec2.open import Ec2FleetOfStore  # brings boto3, which others do without

    fleet = Ec2FleetOfStore(store, nonce, now=now, monotonic=monotonic, log=log).opened()
    return None if fleet is None else OwnedInAccount(fleet)
