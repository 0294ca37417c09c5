"""Instances that live keep what they were launched with: nothing is taken away from them, or put where nobody looks."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from orchestrator.cloud_setup.clients import Caller, Clients
from orchestrator.errors import UsageError
from orchestrator.fleets.ec2.sightings import ALIVE, STORE_TAG
from orchestrator.jobs.cloud_account import ACCOUNT_KEY, CloudAccount
from orchestrator.store import document
from orchestrator.store.protocol import Conflict, Object, Store, StoreError

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

SHOWN_WITHIN_S = 5.0
"""So soon after its launch EC2 shows an instance to whoever asks what there is."""


def check_no_instances(clients: Clients, store_identity: str) -> None:
    """Raise UsageError while instances live: they would be left without their store, and be paid for."""
    wanted: list[FilterTypeDef] = [
        {"Name": f"tag:{STORE_TAG}", "Values": [store_identity]},
        {"Name": "instance-state-name", "Values": list(ALIVE)},
    ]
    with clients.explaining("look for instances that still run"):
        pages = clients.ec2.get_paginator("describe_instances").paginate(Filters=wanted)
        ids = [each["InstanceId"] for page in pages for group in page["Reservations"] for each in group["Instances"]]
    if ids:
        some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
        raise UsageError(
            f"{len(ids)} instances of this store are still there ({some}, in {clients.region}): "
            "end their jobs with elastic cancel, or the instances with elastic reap, and wait until they are gone."
        )


def launched_elsewhere(clients: Clients, caller: Caller, account: CloudAccount | None) -> Clients | None:
    """Clients for where controllers launch so far, if that is another region; None: it is here, or nowhere.

    Raises UsageError where it is in another account, which these credentials cannot see into.
    """
    if account is None or (account.account_id, account.region) == (caller.account_id, clients.region):
        return None
    if account.account_id != caller.account_id:
        raise UsageError(
            f"Instances of this store are launched in the account {account.account_id}, and controllers would lose "
            f"sight of those that live there: with its credentials, elastic bootstrap --destroy --region "
            f"{account.region} first."
        )
    return Clients(clients.session, account.region)


@contextmanager
def without_document(store: Store, region: str) -> Iterator[None]:
    """Without the document by which controllers launch in a region; it comes back if what is done meanwhile fails.

    One that leads to another region stays: the store has moved there since.
    """
    before = store.get(ACCOUNT_KEY)
    if before is None or _region_of(store, before) not in (None, region):
        yield
        return
    store.delete(ACCOUNT_KEY)
    try:
        yield
    except BaseException:
        with suppress(Conflict):  # somebody has set the account up again
            store.create(ACCOUNT_KEY, before.body)
        raise


def _region_of(store: Store, found: Object) -> str | None:
    """Where controllers launch by this document; None: it is in the words of another version."""
    try:
        return document.parse(store, found, CloudAccount).value.region
    except StoreError:
        return None
