"""Where the store is: in a bucket that the stack makes, or in one that was there before."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.cloud_setup.bucket import find_bucket
from orchestrator.cloud_setup.clients import Caller, Clients
from orchestrator.errors import CredentialsError, UsageError
from orchestrator.store.protocol import Store

OWNER = "ELASTIC_BUCKET_OWNER"
ENDPOINT = "AWS_ENDPOINT_URL_S3"


@dataclass(frozen=True)
class Place:
    """A prefix in a bucket; the prefix is empty or ends in a slash."""

    bucket: str
    prefix: str
    makes_bucket: bool

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def store(self, clients: Clients, caller: Caller, environ: Mapping[str, str]) -> Store:
        """The store itself, with the session's credentials."""
        from orchestrator.store.s3 import Settings, connect

        owner = self.environment(caller, environ).get(OWNER)
        return connect(self.bucket, self.prefix.rstrip("/"), Settings(owner=owner), clients.session)

    def environment(self, caller: Caller, environ: Mapping[str, str]) -> dict[str, str]:
        """What whoever opens the store has to be told: whose the bucket must be, or which service it is at."""
        if self.makes_bucket:
            return {OWNER: caller.account_id}
        return {name: environ[name] for name in (OWNER, ENDPOINT) if environ.get(name)}


def place_of(
    stack: str, bucket: str | None, store_url: str | None, before: Mapping[str, str], account_id: str, region: str
) -> Place:
    """The place that is asked for, or the one that the stack has, or a new bucket named after it.

    Raises UsageError when the stack has another: a store does not move, nor may what is in it be left behind unseen.
    """
    asked = _asked(bucket, store_url)
    if not before:
        return asked or Place(f"{stack}-{account_id}-{region}".lower(), "", True)
    present = Place(before["BucketName"], before["StorePrefix"], before["MakeBucket"] == "true")
    if asked is not None and asked.url != present.url:
        raise UsageError(
            f"The stack {stack} keeps its store in {present.url}, which cannot be changed: set up another beside it "
            "with --stack NAME."
        )
    return present


def taken_back(clients: Clients, asked: Place, stack: str, account_id: str, environ: Mapping[str, str]) -> Place:
    """The place that is asked for; as the stack's own where a former stack of this name made the bucket and left it.

    Else the bucket would be somebody's own from then on: without its rules and its policy, and never removed.
    """
    if asked.makes_bucket or asked.prefix or environ.get(ENDPOINT):
        return asked
    try:
        bucket = find_bucket(clients, asked.bucket, account_id)
    except CredentialsError:  # another account's, or one whose tags may not be seen: not the stack's
        return asked
    return replace(asked, makes_bucket=True) if bucket is not None and bucket.stack == stack else asked


def _asked(bucket: str | None, store_url: str | None) -> Place | None:
    if store_url is None:
        return Place(bucket, "", True) if bucket else None
    if bucket is not None:
        raise UsageError("--bucket names a bucket to make, and --store one that is there: use one of them.")
    scheme, _, rest = store_url.partition("://")
    name, _, prefix = rest.partition("/")
    if scheme != "s3" or not name or "@" in rest:
        raise UsageError("--store: instances reach their store over the network only: write s3://BUCKET/PREFIX.")
    return Place(name, f"{prefix.strip('/')}/" if prefix.strip("/") else "", False)
