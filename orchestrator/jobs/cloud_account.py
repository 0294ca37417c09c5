"""What `elastic bootstrap` made in an account, as the bucket keeps it: all that launching an instance takes.

It stands in the bucket of the jobs, so that a controller anywhere launches with no settings of its own but credentials.
"""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from orchestrator.errors import UsageError
from orchestrator.spec.models import Resources
from orchestrator.spec.names import looks_secret
from orchestrator.store import document
from orchestrator.store.document import Document
from orchestrator.store.protocol import Store

ACCOUNT_KEY = "control/ec2.json"

Named = Annotated[str, Field(min_length=1)]


class CloudAccount(Document):
    """One region of an AWS account, ready for instances. Written by `elastic bootstrap`, read by controllers."""

    account_id: Annotated[str, Field(pattern=r"^\d{12}$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d+$")]
    launch_template_id: Named
    launch_template_version: Named
    """A number and not '$Latest': the same request must mean the same instance whenever it is asked again."""
    subnets: Annotated[dict[str, str], Field(min_length=1)]
    """By zone: a generation's instances all stand in one."""
    security_group_id: Named
    instance_profile_arn: Named
    ami: str | None = None
    ami_parameter: str | None = None
    """The SSM parameter that names the AMI; one of the two is given, and `ami` goes first."""
    store_url: Named
    """The bucket as instances see it."""
    package_key: Annotated[str, Field(pattern=r"(^|/)[0-9a-f]{64}/[^/]+\.whl$")]
    """The wheel that instances install, in that store, under its SHA-256 and the name that pip reads the version from:

    control/packages/<SHA-256>/elastic-0.1.0-py3-none-any.whl
    """
    environment: dict[str, str] = Field(default_factory=dict)
    """What agents have to know of the store, such as ELASTIC_BUCKET_OWNER. User data shows it: no secret."""

    @property
    def package_sha256(self) -> str:
        """What the wheel must be, whoever may write into the bucket."""
        return self.package_key.rsplit("/", 2)[-2]

    @field_validator("environment")
    @classmethod
    def _no_secret(cls, environment: dict[str, str]) -> dict[str, str]:
        if secret := next((name for name in environment if looks_secret(name)), None):
            raise ValueError(f"{secret} looks like a secret; instances get their rights from their role")
        return environment

    @model_validator(mode="after")
    def _has_ami(self) -> Self:
        if not self.ami and not self.ami_parameter:
            raise ValueError("neither ami nor ami_parameter is given")
        return self


def load_cloud_account(store: Store) -> CloudAccount | None:
    """What was set up for this store; None: nothing yet. Raises `StoreError`."""
    stored = document.load(store, ACCOUNT_KEY, CloudAccount)
    return stored.value if stored else None


def why_not_here(store_url: str, account: CloudAccount | None, region: str | None) -> str:
    """Why a job for EC2, and a region, can launch nothing from this store; empty: it can, as far as that tells."""
    if account is None and not store_url.startswith("s3:"):
        return (
            f"no AWS account is set up for {store_url}, and instances reach a store over the network only: run "
            "`elastic bootstrap`, then submit again to the bucket that it makes"
        )
    if account is None:
        return (
            f"no AWS account is set up for {store_url}: run `elastic bootstrap --store {store_url}`, then submit again"
        )
    if region not in (None, account.region):
        return (
            f"the job may run in {region} only, and the store's account is set up in {account.region}: "
            "change resources.region, or use a store that is set up there"
        )
    return ""


def require_account(store: Store, resources: Resources) -> None:
    """Raise `UsageError` for a job that would only be submitted to fail."""
    if resources.fleet != "ec2":
        return
    if why := why_not_here(store.url, load_cloud_account(store), resources.region):
        raise UsageError(f"{why[0].upper()}{why[1:]}.")
