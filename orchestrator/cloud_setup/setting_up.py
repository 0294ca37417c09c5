"""Make an account ready for instances, or bring what was made before up to date.

The order is what makes it safe to run again after any interruption: first the stack, then the store's identity, then
the wheel, and last the document by which controllers launch, which names all the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from botocore.exceptions import ClientError

from orchestrator.cloud_setup import living
from orchestrator.cloud_setup import stack as stacks
from orchestrator.cloud_setup.bucket import Bucket, check_bucket_region, find_bucket
from orchestrator.cloud_setup.clients import Caller, Clients
from orchestrator.cloud_setup.image import Image, find_image
from orchestrator.cloud_setup.keys import parameter_of, send_keys, wanted_arn
from orchestrator.cloud_setup.network import Network, find_network
from orchestrator.cloud_setup.place import ENDPOINT, Place, place_of, taken_back
from orchestrator.cloud_setup.refusals import code_of
from orchestrator.cloud_setup.stack import Plan, Sleep, Stack, Tell
from orchestrator.cloud_setup.template import template_body
from orchestrator.cloud_setup.wheel import Wheel, build_wheel
from orchestrator.errors import ElasticError, UsageError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import StoreIdentity, store_identity
from orchestrator.jobs.cloud_account import ACCOUNT_KEY, CloudAccount
from orchestrator.store import document
from orchestrator.store.document import Nonce, Stored
from orchestrator.store.probe import require_conditional_writes
from orchestrator.store.protocol import Conflict, Object, Store, StoreError
from orchestrator.store.s3_keys import PARAMETER

PACKAGES: Final = "control/packages/"
DEFAULT_VOLUME_GIB: Final = 100
SPOT_ROLE: Final = "AWSServiceRoleForEC2Spot"


@dataclass(frozen=True)
class Wishes:
    """What a person asks for; what is left out stays as it was, or is chosen."""

    stack: str
    bucket: str | None = None
    """The name of the bucket that the stack makes."""
    store_url: str | None = None
    """A bucket that is there already, to be used instead."""
    vpc: str | None = None
    subnets: Sequence[str] = ()
    ami: str | None = None
    ami_parameter: str | None = None
    volume_gib: int | None = None
    data_buckets: Sequence[str] | None = None


@dataclass(frozen=True)
class Ports:
    """What is given from outside."""

    environ: Mapping[str, str]
    nonce: Nonce
    sleep: Sleep
    tell: Tell


@dataclass(frozen=True)
class Intention:
    """What was found and what is to be: everything that the request to AWS is made from."""

    caller: Caller
    place: Place
    network: Network
    image: Image
    wanted: stacks.Wanted
    stack: Stack | None
    bucket: Bucket | None
    elsewhere: Clients | None
    """Of the other region that controllers launch in so far."""

    @property
    def reads_keys(self) -> bool:
        """Whether instances read the store's own keys from SSM."""
        return bool(self.wanted.parameters["StoreKeysArn"])


@dataclass(frozen=True)
class Made:
    """What is there now."""

    stack: Stack
    account: CloudAccount
    store_url: str
    changes: tuple[stacks.Change, ...]
    """What was changed in the stack just now."""
    package_sent: bool
    account_written: bool
    makes_bucket: bool
    keys_sent: bool = False
    """Whether the store's own keys were put into SSM just now."""


def intend(clients: Clients, wishes: Wishes, ports: Ports) -> Intention:
    """Look at the account, and work out what the stack is to be. Changes nothing. Raises ElasticError."""
    caller = clients.caller()
    stack = stacks.find(clients, wishes.stack)
    stacks.check_ready(stack)
    before = stack.parameters if stack else {}
    place = place_of(wishes.stack, wishes.bucket, wishes.store_url, before, caller.account_id, clients.region)
    if stack is None:
        place = taken_back(clients, place, wishes.stack, caller.account_id, ports.environ)
    bucket = _usable_bucket(clients, wishes, place, caller, stack, ports.environ)
    network = _network(clients, wishes, before)
    is_there = bucket is not None or not place.makes_bucket
    store = place.store(clients, caller, ports.environ) if is_there else None
    known = _readable(store, store.get(ACCOUNT_KEY)) if store else None
    elsewhere = living.launched_elsewhere(clients, caller, known.value if known else None)
    identity = _identity(store, before, ports.nonce)
    if elsewhere is not None:
        living.check_no_instances(elsewhere, identity)
    image = _image(clients, wishes, known.value if known else None)
    volume_gib = wishes.volume_gib or int(before.get("VolumeGiB", max(DEFAULT_VOLUME_GIB, image.size_gib)))
    if volume_gib < image.size_gib:
        raise UsageError(f"--volume {volume_gib}: the image alone needs {image.size_gib} GiB.")
    parameters = {
        "BucketName": place.bucket,
        "MakeBucket": "true" if place.makes_bucket else "false",
        "StorePrefix": place.prefix,
        "StoreId": identity,
        "VpcId": network.vpc_id,
        "SubnetArns": ",".join(network.arns),
        "ImageParameterArn": image.parameter_arn(caller.partition, clients.region, caller.account_id),
        "RootDevice": image.root_device,
        "VolumeGiB": str(volume_gib),
        "DataArns": _data_arns(wishes, before, caller.partition),
        "StoreKeysArn": wanted_arn(wishes.stack, place.makes_bucket, before, caller, clients.region, ports.environ),
    }
    takes_back = stack is None and place.makes_bucket and bucket is not None
    wanted = stacks.Wanted(wishes.stack, template_body(), parameters, takes_back)
    return Intention(caller, place, network, image, wanted, stack, bucket, elsewhere)


def plan(clients: Clients, intention: Intention, ports: Ports) -> Plan | None:
    """What would change in the stack; None: nothing."""
    return stacks.plan(clients, intention.wanted, intention.stack, ports.nonce()[:12], ports.sleep)


def set_up(clients: Clients, wishes: Wishes, ports: Ports) -> Made:
    """Make or change what is to be, and say what is there then. Doing it twice changes nothing. Raises ElasticError."""
    intention = intend(clients, wishes, ports)
    wheel = build_wheel()
    _ensure_spot_role(clients)
    planned = plan(clients, intention, ports)
    stack = intention.stack
    if planned is not None:
        ports.tell("making the stack, which takes about three minutes" if planned.makes else "changing the stack")
        stack = stacks.carry_out(clients, planned, ports.sleep, ports.tell)
    assert stack is not None, "a stack that is not there cannot be unchanged"
    store = intention.place.store(clients, intention.caller, ports.environ)
    keys_sent = intention.reads_keys and send_keys(clients, wishes.stack, ports.environ)
    if (endpoint := ports.environ.get(ENDPOINT)) and not intention.reads_keys:
        ports.tell(f"the store is at {endpoint}, which has to accept the credentials of the instances' role")
    if endpoint and not endpoint.startswith("https://"):
        ports.tell(f"instances get out by HTTPS alone, and so may not reach {endpoint}")
    require_conditional_writes(store, ports.nonce)
    _settle_identity(store, intention.wanted.parameters["StoreId"])
    key = f"{PACKAGES}{wheel.sha256}/{wheel.name}"
    sent = _send(store, key, wheel)
    if intention.elsewhere is not None:
        with living.without_document(store, intention.elsewhere.region):
            ports.sleep(living.SHOWN_WITHIN_S)
            living.check_no_instances(intention.elsewhere, intention.wanted.parameters["StoreId"])
    account = _account(intention, stack, key, ports.environ)
    written = _write(store, account, ports.nonce)
    changes = planned.changes if planned else ()
    return Made(stack, account, store.url, changes, sent, written, intention.place.makes_bucket, keys_sent)


def _usable_bucket(
    clients: Clients, wishes: Wishes, place: Place, caller: Caller, stack: Stack | None, environ: Mapping[str, str]
) -> Bucket | None:
    """The bucket if it is there and may be used; a bucket of somebody's own is never taken over."""
    if not place.makes_bucket:
        if not environ.get(ENDPOINT):
            check_bucket_region(clients, place.bucket)
        return None  # what else there is to know of it, the store's first request tells
    bucket = find_bucket(clients, place.bucket, caller.account_id)
    if bucket is None or stack is not None or bucket.stack == wishes.stack:
        return bucket
    whose = f"was made by the stack {bucket.stack}" if bucket.stack else "was not made by elastic"
    raise UsageError(
        f"The bucket {place.bucket} is there already and {whose}, so a stack must not take it over: name another with "
        f"--bucket, or use it as it is with --store s3://{place.bucket}/PREFIX."
    )


def _network(clients: Clients, wishes: Wishes, before: Mapping[str, str]) -> Network:
    subnets = list(wishes.subnets)
    if not subnets and wishes.vpc in (None, before.get("VpcId")):
        subnets = [arn.rpartition("/")[2] for arn in before.get("SubnetArns", "").split(",") if arn]
    return find_network(clients, wishes.vpc, subnets)


def _image(clients: Clients, wishes: Wishes, known: CloudAccount | None) -> Image:
    """The image that is named, or the one that was, or AWS's."""
    if wishes.ami or wishes.ami_parameter or known is None:
        return find_image(clients, wishes.ami, wishes.ami_parameter)
    return find_image(clients, known.ami, known.ami_parameter)


def _data_arns(wishes: Wishes, before: Mapping[str, str], partition: str) -> str:
    if wishes.data_buckets is None:
        return before.get("DataArns", "")
    arns = [f"arn:{partition}:s3:::{bucket}" for bucket in dict.fromkeys(wishes.data_buckets)]
    return ",".join(each for arn in arns for each in (arn, f"{arn}/*"))


def _identity(store: Store | None, before: Mapping[str, str], nonce: Nonce) -> str:
    """The store's identity: what it has said so far goes before what the stack was told."""
    known = document.load(store, layout.IDENTITY, StoreIdentity) if store is not None else None
    return known.value.nonce if known else before.get("StoreId") or nonce()


def _settle_identity(store: Store, identity: str) -> None:
    """Write it into a store that has none. Raises ElasticError when somebody else was first, with another."""
    if store_identity(store, lambda: identity) != identity:
        raise ElasticError(f"Somebody began to use {store.url} at this very moment: run the same command again.")


def _ensure_spot_role(clients: Clients) -> None:
    """EC2 starts spot instances by a role of its own, which only the console makes unasked."""
    with clients.explaining("make the role by which EC2 starts spot instances"):
        try:
            clients.iam.get_role(RoleName=SPOT_ROLE)
        except ClientError as error:
            if code_of(error) != "NoSuchEntity":
                raise
            _make_spot_role(clients)


def _make_spot_role(clients: Clients) -> None:
    try:
        clients.iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    except ClientError as error:  # somebody was first: then it is there
        if code_of(error) not in ("InvalidInput", "EntityAlreadyExists"):
            raise


def _send(store: Store, key: str, wheel: Wheel) -> bool:
    """Put the wheel into the store; False: it was there."""
    if next(store.list(key), None) is not None:
        return False
    store.put(key, wheel.body)
    return True


def _account(intention: Intention, stack: Stack, package_key: str, environ: Mapping[str, str]) -> CloudAccount:
    return CloudAccount(
        account_id=intention.caller.account_id,
        region=stack.id.split(":")[3],
        launch_template_id=stack.outputs["LaunchTemplateId"],
        launch_template_version=stack.outputs["LaunchTemplateVersion"],
        subnets=dict(intention.network.subnets),
        security_group_id=stack.outputs["SecurityGroupId"],
        instance_profile_arn=stack.outputs["InstanceProfileArn"],
        ami=intention.image.ami,
        ami_parameter=intention.image.parameter,
        store_url=intention.place.url,
        package_key=package_key,
        environment={
            **intention.place.environment(intention.caller, environ),
            **({PARAMETER: parameter_of(intention.wanted.name)} if intention.reads_keys else {}),
        },
    )


def _readable(store: Store, found: Object | None) -> Stored[CloudAccount] | None:
    """What an earlier bootstrap has told controllers; None: nothing, or what another version said, to be said anew."""
    try:
        return document.parse(store, found, CloudAccount) if found else None
    except StoreError:
        return None


def _write(store: Store, account: CloudAccount, nonce: Nonce) -> bool:
    """Tell controllers; False: they know. Raises ElasticError when somebody else sets up the same at the same time."""
    found = store.get(ACCOUNT_KEY)
    stored = _readable(store, found)
    try:
        if stored is None:
            if found is not None:
                store.delete(ACCOUNT_KEY, found.etag)
            document.create(store, ACCOUNT_KEY, account, nonce)
        elif stored.value.model_copy(update={"seq": 0, "nonce": ""}) == account:
            return False
        else:
            document.swap(store, ACCOUNT_KEY, stored, account, nonce)
    except Conflict as conflict:
        raise ElasticError(f"Somebody else is setting up {store.url} at this moment: run it again.") from conflict
    return True
