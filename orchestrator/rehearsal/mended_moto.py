"""moto's EC2, made to keep what AWS documents where moto does not, for the process that serves it (`account_server`).

moto 5.2.5 ignores ClientToken, knows no filter for it, ignores most of a launch template, has instances run and be gone
at once, lets a second terminate rewrite when an instance ended, and knows one dummy of a spot price.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import Instance, InstanceBackend, StateReason
from moto.ec2.responses.spot_instances import SpotInstances
from moto.ec2.utils import filter_dict_attribute_mapping
from werkzeug.exceptions import HTTPException

from orchestrator.fleets.protocol import Market
from orchestrator.rehearsal.prices import Prices
from orchestrator.rehearsal.refusals import CHANGED, Refusal, Shortages

PENDING, RUNNING, SHUTTING_DOWN = ("pending", 0), ("running", 16), ("shutting-down", 32)
OVER = ("shutting-down", "terminated", "stopped")

_BY_API = StateReason("Client.UserInitiatedShutdown: User initiated shutdown", "Client.UserInitiatedShutdown")
_FROM_WITHIN = StateReason(
    "Client.InstanceInitiatedShutdown: Instance initiated shutdown", "Client.InstanceInitiatedShutdown"
)
_RECLAIMED = StateReason("Server.SpotInstanceTermination: Spot instance termination", "Server.SpotInstanceTermination")
_BROKEN = StateReason("Server.InternalError: Internal error on launch or while running", "Server.InternalError")

_run_instances = InstanceBackend.run_instances
_terminate = Instance.terminate


class _Refused(HTTPException):
    """Leaves moto as EC2's error document."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.code, self.description = refusal.status, error_document(refusal)

    def get_headers(self, *_: object, **__: object) -> list[tuple[str, str]]:
        return [("Content-Type", "text/xml")]


@dataclass
class MendedAccount:
    """What the account is like now, and all that it has ever started."""

    prices: Prices = field(default_factory=Prices)
    shortages: Shortages = field(default_factory=Shortages)
    _tokens: dict[tuple[str, str], tuple[Mapping[str, Any], Any]] = field(default_factory=dict)
    _usd_per_hour: dict[str, float] = field(default_factory=dict)
    _ended_at: dict[str, datetime] = field(default_factory=dict)

    def install(self) -> None:
        """Take the place of moto's own functions, in this process and for good."""
        account = self

        def run_instances(backend: Any, image_id: str, count: int, user_data: Any, groups: Any, **asked: Any) -> Any:
            return account._run(backend, image_id, count, user_data, groups, asked)

        def terminate(instance: Any) -> Any:
            return account._terminate(instance, _BY_API)

        def describe_spot_price_history(response: Any) -> Any:
            return account._spot_price_history(response)

        for owner, function in (
            (InstanceBackend, run_instances),
            (Instance, terminate),
            (SpotInstances, describe_spot_price_history),
        ):
            setattr(owner, function.__name__, function)
        filter_dict_attribute_mapping["client-token"] = "client_token"

    # --- what only AWS itself does to an instance ---------------------------------------------------------------------

    def booted(self, instance_id: str) -> None:
        """Its machine runs now."""
        instance = _instance(instance_id)
        if instance.state == PENDING[0]:
            instance._state.name, instance._state.code = RUNNING

    def shut_down_from_within(self, instance_id: str) -> None:
        """`shutdown` was called on it: what follows is what it was launched with."""
        instance = _instance(instance_id)
        if instance.state in OVER:
            return
        if instance.instance_initiated_shutdown_behavior == "terminate":
            self._terminate(instance, _FROM_WITHIN)
        else:
            instance.stop()
            instance.state_reason = _FROM_WITHIN
            self._ended_at[instance_id] = datetime.now(UTC)

    def take_back(self, instance_id: str) -> None:
        """End it as AWS does: a spot instance because it is wanted elsewhere, another because it broke."""
        instance = _instance(instance_id)
        self._terminate(instance, _RECLAIMED if instance.lifecycle == "spot" else _BROKEN)

    def ended(self, instance_id: str) -> None:
        """Nothing of its machine runs any more."""
        instance = _instance(instance_id)
        if instance.state == SHUTTING_DOWN[0]:
            kept = instance._reason, instance.state_reason
            _terminate(instance)
            instance._reason, instance.state_reason = kept

    def ledger(self) -> list[dict[str, Any]]:
        """All instances that were ever started, oldest first."""
        instances = [i for backend in _backends() for i in backend.all_instances()]
        return [self._entry(instance) for instance in sorted(instances, key=lambda i: (i.launch_time, i.id))]

    def _entry(self, instance: Any) -> dict[str, Any]:
        ended_at = self._ended_at.get(instance.id)
        return {
            "id": instance.id,
            "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
            "instance_type": instance.instance_type,
            "zone": instance.placement.zone,
            "market": _market(instance.lifecycle),
            "state": instance.state,
            "why": instance.state_reason.message,
            "launched_at": instance.launch_time.replace(tzinfo=UTC).isoformat(),
            "ended_at": ended_at.isoformat() if ended_at else None,
            "usd_per_hour": self._usd_per_hour[instance.id],
            "user_data": instance.user_data.decode() if instance.user_data else "",
            "has_role": instance.id in instance.ec2_backend.iam_instance_profile_associations,
            "shows_tags": instance.metadata_options.instance_metadata_tags == "enabled",
        }

    # --- what moto does otherwise -------------------------------------------------------------------------------------

    def _run(self, backend: Any, image_id: str, count: int, user_data: Any, groups: Any, asked: dict[str, Any]) -> Any:
        """RunInstances: once for each token; refused when there is a shortage; with all of the launch template."""
        token = (backend.region_name, asked.get("client_token") or "")
        same = {"image": image_id, "count": count, "user_data": str(user_data), **_comparable(asked)}
        if token in self._tokens:
            before, reservation = self._tokens[token]
            if before != same:
                raise _Refused(CHANGED)
            for instance in reservation.instances:  # moto gives the profile once more, and refuses that
                backend.iam_instance_profile_associations.pop(instance.id, None)
            return reservation
        instance_type, market = asked["instance_type"], _market("spot" if asked["instance_market_options"] else None)
        if refusal := self.shortages.refusal(instance_type, _zone(backend, asked), market):
            raise _Refused(refusal)
        profile = _take_from_template(backend, asked)
        reservation = _run_instances(backend, image_id, count, user_data, groups, **asked)
        for instance in reservation.instances:
            instance._state.name, instance._state.code = PENDING
            zone = instance.placement.zone or ""
            self._usd_per_hour[instance.id] = self.prices.usd_per_hour(instance.instance_type, zone, market)
            if profile:
                backend.associate_iam_instance_profile(instance_id=instance.id, **profile)
        if token[1] not in ("", "ABCDE"):  # moto's word for none
            self._tokens[token] = (same, reservation)
        return reservation

    def _terminate(self, instance: Any, why: StateReason) -> Any:
        """It is paid for until now; gone it is when its machine is (`ended`)."""
        before = type(instance._state)(instance.state, instance.state_code)
        if instance.state in OVER:
            return before
        at = utcnow()
        self._ended_at[instance.id] = at.replace(tzinfo=UTC)
        instance._state.name, instance._state.code = SHUTTING_DOWN
        instance._reason = f"User initiated ({at:%Y-%m-%d %H:%M:%S} GMT)" if why is _BY_API else why.code
        instance.state_reason = why
        return before

    def _spot_price_history(self, response: Any) -> Any:
        from moto.core.responses import ActionResult

        filters = dict(response._filters_from_querystring())
        if zone := response._get_param("AvailabilityZone"):
            filters["availability-zone"] = [zone]
        wanted = {name: values for name, values in filters.items() if name in ("availability-zone", "instance-type")}
        products = response._get_param("ProductDescriptions", []) or filters.get("product-description", [])
        offered = response.ec2_backend.describe_spot_price_history(response._get_param("InstanceTypes", []), wanted)
        product = products[0] if products else "Linux/UNIX"
        history = [
            {
                "InstanceType": offer["InstanceType"],
                "ProductDescription": product,
                "SpotPrice": f"{self.prices.usd_per_hour(offer['InstanceType'], offer['Location'], 'spot'):.6f}",
                "AvailabilityZone": offer["Location"],
                "Timestamp": utcnow().replace(minute=0, second=0, microsecond=0),
            }
            for offer in offered
        ]
        return ActionResult({"SpotPriceHistory": history})


def error_document(refusal: Refusal) -> str:
    """EC2's XML for an error."""
    error = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors>{error}</Errors><RequestID>0</RequestID></Response>'
    )


def _take_from_template(backend: Any, asked: dict[str, Any]) -> dict[str, str]:
    """Fill in what a launch template has and the request has not; gives the template's profile, to be associated."""
    if not asked.get("launch_template"):
        return {}
    data = backend._get_template_from_args(asked["launch_template"]).data
    behaviour = data.get("InstanceInitiatedShutdownBehavior")
    asked["instance_initiated_shutdown_behavior"] = asked.get("instance_initiated_shutdown_behavior") or behaviour
    asked["metadata_options"] = {**data.get("MetadataOptions", {}), **(asked.get("metadata_options") or {})}
    if asked.get("iam_instance_profile_name") or asked.get("iam_instance_profile_arn"):
        return {}
    profile = data.get("IamInstanceProfile", {})
    return {f"iam_instance_profile_{name.lower()}": value for name, value in profile.items() if value}


def _zone(backend: Any, asked: Mapping[str, Any]) -> str:
    if asked.get("subnet_id"):
        return str(backend.get_subnet(asked["subnet_id"]).availability_zone)
    nics = asked.get("nics") or []
    subnet = next((nic["SubnetId"] for nic in nics if "SubnetId" in nic), None)
    if subnet:
        return str(backend.get_subnet(subnet).availability_zone)
    return str(asked.get("placement") or f"{backend.region_name}a")


def _comparable(asked: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in asked.items()}


def _market(lifecycle: str | None) -> Market:
    return "spot" if lifecycle == "spot" else "on_demand"


def _backends() -> list[Any]:
    return [backend for regions in ec2_backends.values() for backend in regions.values()]


def _instance(instance_id: str) -> Any:
    found = [backend.get_instance_by_id(instance_id) for backend in _backends()]
    return cast(Any, next(instance for instance in found if instance is not None))
