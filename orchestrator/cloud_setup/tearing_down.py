"""Take away what was set up: the stack at once, the bucket only for who says so twice."""

from dataclasses import dataclass

from orchestrator.cloud_setup import living
from orchestrator.cloud_setup import stack as stacks
from orchestrator.cloud_setup.bucket import count_objects, find_bucket, remove_bucket
from orchestrator.cloud_setup.clients import Caller, Clients
from orchestrator.cloud_setup.keys import remove_keys
from orchestrator.cloud_setup.living import check_no_instances, without_document
from orchestrator.cloud_setup.place import Place, place_of
from orchestrator.cloud_setup.setting_up import Ports
from orchestrator.cloud_setup.stack import Stack
from orchestrator.errors import ElasticError, UsageError


@dataclass(frozen=True)
class Removal:
    """What there is to remove."""

    caller: Caller
    stack: Stack | None
    place: Place
    objects: str | None
    """How many objects the stack's bucket holds; None: it has none of its own, or it is gone."""


def look(clients: Clients, stack_name: str, delete_bucket: str | None) -> Removal:
    """See what there is; changes nothing. Raises ElasticError where it must not be removed."""
    caller = clients.caller()
    stack = stacks.find(clients, stack_name)
    if stack is not None and stack.under_way and not stack.status.startswith("DELETE"):
        raise ElasticError(
            f"The stack {stack.name} is being changed at this moment ({stack.status}): wait until it is."
        )
    place = place_of(stack_name, None, None, stack.parameters if stack else {}, caller.account_id, clients.region)
    if delete_bucket is not None:
        place = _bucket_to_delete(place, stack, delete_bucket)
    objects = None
    if place.makes_bucket and (bucket := find_bucket(clients, place.bucket, caller.account_id)) is not None:
        if delete_bucket is not None and bucket.stack != stack_name:
            raise UsageError(
                f"The bucket {place.bucket} was not made by the stack {stack_name}: it is not removed here."
            )
        objects = count_objects(clients, place.bucket, caller.account_id) if bucket.stack == stack_name else None
    if stack is not None:
        _check_no_instances(clients, stack)
    return Removal(caller, stack, place, objects)


def remove_stack(clients: Clients, removal: Removal, ports: Ports) -> None:
    """Remove the stack; first the document by which controllers launch, so that none tries what cannot be.

    Meanwhile one may have launched: what lives then keeps the stack, and the document is put back. Raises UsageError.
    """
    if removal.stack is None:
        return
    if removal.objects is not None or not removal.place.makes_bucket:
        store = removal.place.store(clients, removal.caller, ports.environ)
        with without_document(store, clients.region):
            ports.sleep(living.SHOWN_WITHIN_S)
            _check_no_instances(clients, removal.stack)
    stacks.remove(clients, removal.stack, ports.sleep, ports.tell)
    if removal.stack.parameters.get("StoreKeysArn"):
        remove_keys(clients, removal.stack.name)


def remove_its_bucket(clients: Clients, removal: Removal) -> int:
    """Remove the bucket with all that was ever in it; returns how many versions of objects there were."""
    return remove_bucket(clients, removal.place.bucket, removal.caller.account_id)


def _bucket_to_delete(place: Place, stack: Stack | None, named: str) -> Place:
    """The bucket that a person has named must be the stack's: a slip of memory must not cost another one."""
    if not place.makes_bucket:
        raise UsageError(f"The store of this stack is in {place.url}, which it did not make: it is not removed here.")
    if stack is not None and place.bucket != named:
        raise UsageError(f"--delete-bucket {named}: the bucket of this stack is {place.bucket}.")
    return Place(named, "", True)


def _check_no_instances(clients: Clients, stack: Stack) -> None:
    check_no_instances(clients, stack.parameters.get("StoreId", ""))
