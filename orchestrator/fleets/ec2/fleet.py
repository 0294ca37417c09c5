"""The EC2 fleet: the protocol, fulfilled by one AWS account in one region, for one store."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from orchestrator.fleets.ec2.client import Clients
from orchestrator.fleets.ec2.errors import FAILURES, MISMATCH, code_of, explain, explain_launch
from orchestrator.fleets.ec2.launching import client_token, run_instances
from orchestrator.fleets.ec2.offers import order_offers
from orchestrator.fleets.ec2.places import Places
from orchestrator.fleets.ec2.prices import Prices
from orchestrator.fleets.ec2.quotas import Quotas
from orchestrator.fleets.ec2.sightings import (
    ALIVE,
    INSTANCE_TAG,
    LAG_S,
    STORE_TAG,
    Seen,
    answered_at,
    by_name,
    read_page,
    superfluous,
)
from orchestrator.fleets.ec2.user_data import user_data
from orchestrator.fleets.protocol import FleetError, InstanceState, LaunchError, LaunchRequest, Offer, Sighting
from orchestrator.jobs.cloud_account import CloudAccount, why_not_here
from orchestrator.spec.models import Resources

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

RECENT = timedelta(hours=1)
"""So long an interruption counts against its zone. EC2 shows an ended instance for about as long."""
REMEMBERED = 3 * RECENT
"""So long it is remembered when an instance was first seen to end."""

_MAX_FILTER_VALUES = 200
_PAGE = 1000


class Ec2Fleet:
    """Instances of EC2, known by tag and by the token of their launch. May be used by several threads at once."""

    def __init__(
        self,
        account: CloudAccount,
        store_identity: str,
        clients: Clients,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        self.account = account
        self._identity, self._clients, self._log = store_identity, clients, log
        self._places = Places(clients, monotonic)
        self._prices = Prices(clients, now=now, monotonic=monotonic, log=log)
        self._quotas = Quotas(clients.quotas, clients.region, monotonic, log)
        self._lock = threading.Lock()
        self._ids: dict[str, str] = {}  # by name, of launches of ours: EC2 may not show them yet
        self._sent: set[str] = set()  # names of launches that were sent: only EC2 itself can refuse them now
        self._ending_since: dict[str, datetime] = {}  # by id: when it was first seen to end, by AWS's clock
        self._reclaimed: dict[str, Seen] = {}
        self._over: dict[str, Sighting] = {}  # by name: what a launch was answered with was over, and is soon forgotten
        self._told_at: datetime | None = None  # when EC2 gave its newest answer, by AWS's clock

    @property
    def lag_s(self) -> float:
        return LAG_S

    # --- launch -------------------------------------------------------------------------------------------------------

    def launch(self, request: LaunchRequest) -> None:
        """Ask EC2 for one instance, once: how often it is sent again is the controller's decision."""
        if request.instance not in self._sent:
            self._check(request)
        asked = run_instances(
            request,
            self.account,
            store_identity=self._identity,
            ami=self.account.ami or self._places.ami(self.account.ami_parameter or ""),
            user_data=user_data(request, self.account),
        )
        with self._lock:
            self._sent.add(request.instance)
        try:
            answer = self._clients.launch.run_instances(**asked)
        except FAILURES as error:
            if code_of(error) == MISMATCH:
                self._log(f"{request.instance} was launched before with other settings: EC2 may show it soon")
                return  # the account was set up anew meanwhile; whoever never sees the former gives up its name
            vcpus = self._places.vcpus(request.instance_type)
            raise explain_launch(error, request, self._clients.region, vcpus) from error
        [launched] = read_page({"Reservations": [answer], "ResponseMetadata": answer["ResponseMetadata"]})
        told = launched.sighting()
        with self._lock:
            self._ids[request.instance] = launched.instance_id
            if told.state is InstanceState.GONE:
                self._over[request.instance] = told

    def _check(self, request: LaunchRequest) -> None:
        """What can be told before anything is sent. Raises LaunchError."""
        self._zones(request.instance_type)
        vcpus = self._places.vcpus(request.instance_type)
        self._quotas.check(request.instance_type, vcpus, request.market, request.count)

    # --- describe and terminate ---------------------------------------------------------------------------------------

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        """What EC2 says of each. Where two carry one name the older lives and the other is ended."""
        names = list(instances)
        found = self._find(names)
        for name, of_name in found.items():
            for instance_id in superfluous(of_name):
                self._end_second(instance_id, name)
        told = {name: self._over[name] for name in names if name in self._over}
        for name, (one, *_others) in found.items():
            told[name] = one.sighting(self._ending_since.get(one.instance_id))
        return told

    def _end_second(self, instance_id: str, name: str) -> None:
        """End one too many. Where that is refused, what is seen is told all the same: every job depends on it."""
        self._log(f"{instance_id} is a second instance of {name}: it is ended")
        try:
            self._end(instance_id)
        except FleetError as error:
            self._log(f"{instance_id} runs on, and costs money: {error}")

    def terminate(self, instance: str) -> None:
        """End all that carries the name, and what a launch of it gave, though EC2 does not show it yet."""
        ids = {one.instance_id for one in self._find([instance]).get(instance, []) if not one.is_ending}
        with self._lock:
            known = self._ids.get(instance)
        if known is not None:
            ids.add(known)
        for instance_id in sorted(ids):
            self._end(instance_id)

    def end(self, instance_id: str) -> None:
        """End one of `owned`, whatever its name."""
        self._end(instance_id)

    def owned(self) -> tuple[Seen, ...]:
        """Every instance of this store that costs money now, whoever launched it and whatever it is named."""
        alive: FilterTypeDef = {"Name": "instance-state-name", "Values": list(ALIVE)}
        return tuple(self._ask([self._of_store(), alive]))

    def _find(self, names: Sequence[str]) -> dict[str, list[Seen]]:
        """The instances of these names, by tag; those that no tag shows, by token."""
        tokens = {client_token(self._identity, name): name for name in names}
        filters = [self._of_store()]
        if len(names) <= _MAX_FILTER_VALUES:
            filters.append({"Name": f"tag:{INSTANCE_TAG}", "Values": list(names)})
        seen = self._ask(filters) if names else []
        shown = {one.instance for one in seen} | {tokens.get(one.token, "") for one in seen}
        hidden = [token for token, name in tokens.items() if name not in shown]
        for start in range(0, len(hidden), _MAX_FILTER_VALUES):
            seen += self._ask([{"Name": "client-token", "Values": hidden[start : start + _MAX_FILTER_VALUES]}])
        return by_name(seen, tokens)

    def _of_store(self) -> "FilterTypeDef":
        return {"Name": f"tag:{STORE_TAG}", "Values": [self._identity]}

    def _ask(self, filters: "list[FilterTypeDef]") -> list[Seen]:
        pages = self._clients.ec2.get_paginator("describe_instances").paginate(
            Filters=filters, PaginationConfig={"PageSize": _PAGE}
        )
        try:
            answers = list(pages)
        except FAILURES as error:
            raise explain(error, "DescribeInstances", self._clients.region) from error
        seen = [one for answer in answers for one in read_page(answer)]
        self._remember(seen, [answered_at(answer) for answer in answers])
        return seen

    def _remember(self, seen: Sequence[Seen], told_at: Sequence[datetime | None]) -> None:
        """Keep what later looks will want to know, and let go what EC2 itself has forgotten."""
        with self._lock:
            self._told_at = max((at for at in (self._told_at, *told_at) if at is not None), default=None)
            for one in (one for one in seen if one.is_ending):
                self._ids.pop(one.instance, None)
                self._sent.discard(one.instance)
                if one.at is not None:
                    self._ending_since.setdefault(one.instance_id, one.at)
                if one.was_reclaimed:
                    self._reclaimed[one.instance_id] = one
            for instance_id, since in list(self._ending_since.items()):
                if self._told_at is not None and self._told_at - since > REMEMBERED:
                    del self._ending_since[instance_id]
                    self._reclaimed.pop(instance_id, None)

    def _end(self, instance_id: str) -> None:
        try:
            self._clients.ec2.terminate_instances(InstanceIds=[instance_id])
        except FAILURES as error:
            if code_of(error) == "InvalidInstanceID.NotFound":
                return  # not shown yet, or forgotten long ago: whoever wants it ended looks again
            raise explain(error, "TerminateInstances", self._clients.region) from error

    # --- offers -------------------------------------------------------------------------------------------------------

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:
        """Where the type may be had, best first. Raises FleetError, and LaunchError where it cannot be had at all."""
        if why := why_not_here(self.account.store_url, self.account, resources.region):
            raise LaunchError(why, kind="fatal")
        on_demand = self._prices.on_demand(instance_type)
        if on_demand is None:
            raise LaunchError(
                f"AWS's price list has no {instance_type} in {self.account.region}, so no budget can be kept: choose "
                "another type",
                kind="fatal",
            )
        return order_offers(
            instance_type,
            market=resources.market,
            zones=self._zones(instance_type),
            spot=self._prices.spot(instance_type) if resources.market != "on_demand" else {},
            on_demand=on_demand,
            interruptions=self._interruptions(instance_type),
        )

    def _zones(self, instance_type: str) -> frozenset[str]:
        """The zones with a subnet that have the type. Raises LaunchError where there is none."""
        offered = self._places.zones(instance_type)
        zones = offered & self.account.subnets.keys()
        if zones:
            return zones
        mine = ", ".join(sorted(self.account.subnets))
        elsewhere = ", ".join(sorted(offered))
        advice = f"it is in {elsewhere}: give bootstrap a subnet there" if offered else "choose another type or region"
        raise LaunchError(f"{instance_type} is not offered in {mine}; {advice}", kind="fatal")

    def _interruptions(self, instance_type: str) -> Mapping[str, int]:
        """How many spot instances of a type each zone took back within the last hour, as far as was seen."""
        with self._lock:
            reclaimed, now = list(self._reclaimed.values()), self._told_at
        ends = {one.instance_id: one.ended_at or self._ending_since.get(one.instance_id) for one in reclaimed}
        counts: dict[str, int] = {}
        for one in reclaimed:
            end = ends[one.instance_id]
            if one.instance_type == instance_type and end and now and now - end <= RECENT:
                counts[one.zone] = counts.get(one.zone, 0) + 1
        return counts
