"""The EC2 fleet of a store, opened when a job first wants it, and anew when the account is set up anew.

What talks to AWS is imported only then: a daemon of local jobs does without.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from orchestrator.fleets.ec2.sightings import LAG_S
from orchestrator.fleets.protocol import LaunchError, LaunchRequest, Offer, Sighting
from orchestrator.jobs.bucket import store_identity
from orchestrator.jobs.cloud_account import ACCOUNT_KEY, CloudAccount, why_not_here
from orchestrator.spec.models import Resources
from orchestrator.store import document
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Store, Unchanged

if TYPE_CHECKING:
    from orchestrator.fleets.ec2.client import Clients
    from orchestrator.fleets.ec2.fleet import Ec2Fleet


class Ec2FleetOfStore:
    """What a daemon has under the name 'ec2': asks AWS nothing as long as no job wants it. For several threads."""

    def __init__(
        self,
        store: Store,
        nonce: Nonce,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Callable[[str], None],
        clients: "Callable[[str], Clients] | None" = None,
    ) -> None:
        """`clients` makes those of a region, without it by the credentials that botocore finds."""
        self._store, self._nonce, self._clients = store, nonce, clients
        self._now, self._monotonic, self._log = now, monotonic, log
        self._fleet: Ec2Fleet | None = None
        self._etag: str | None = None
        self._lock = threading.Lock()

    @property
    def lag_s(self) -> float:
        return LAG_S

    def launch(self, request: LaunchRequest) -> None:
        self._prepared().launch(request)

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:
        return self._prepared().offers(resources, instance_type)

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        """Without an account nothing was ever launched."""
        fleet = self.opened()
        return fleet.describe(instances) if fleet else {}

    def terminate(self, instance: str) -> None:
        if fleet := self.opened():
            fleet.terminate(instance)

    def opened(self) -> "Ec2Fleet | None":
        """The fleet of the account as it was last seen; None: there is none. Raises StoreError and UsageError."""
        with self._lock:
            return self._fleet or self._look()

    def _prepared(self) -> "Ec2Fleet":
        """The fleet of the account as it is now: nothing is launched with what bootstrap has replaced or removed."""
        with self._lock:
            fleet = self._look()
        if fleet is None:
            raise LaunchError(why_not_here(self._store.url, None, None), kind="fatal")
        return fleet

    def _look(self) -> "Ec2Fleet | None":
        found = self._store.get_if_changed(ACCOUNT_KEY, self._etag)
        if isinstance(found, Unchanged):
            return self._fleet
        if found is None:
            self._etag = None  # what was launched is still described, and ended, through the fleet that there was
            return None
        stored = document.parse(self._store, found, CloudAccount)
        self._fleet, self._etag = self._open(stored.value), stored.etag
        return self._fleet

    def _open(self, account: CloudAccount) -> "Ec2Fleet":
        from orchestrator.fleets.ec2.client import make_clients
        from orchestrator.fleets.ec2.fleet import Ec2Fleet

        return Ec2Fleet(
            account,
            store_identity(self._store, self._nonce),
            (self._clients or make_clients)(account.region),
            now=self._now,
            monotonic=self._monotonic,
            log=self._log,
        )
