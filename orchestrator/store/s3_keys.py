"""The keys of the store's own, where it is at another S3 service than AWS, or another account's.

`ELASTIC_S3_ACCESS_KEY_ID` and `ELASTIC_S3_SECRET_ACCESS_KEY`, or `ELASTIC_S3_PARAMETER`: the parameter of SSM, a
SecureString, where instances find the two. Everything else of AWS goes on with the credentials that botocore finds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from botocore.exceptions import BotoCoreError, ClientError

from orchestrator.errors import UsageError
from orchestrator.store.protocol import StoreDenied

KEY_ID = "ELASTIC_S3_ACCESS_KEY_ID"
SECRET = "ELASTIC_S3_SECRET_ACCESS_KEY"
PARAMETER = "ELASTIC_S3_PARAMETER"


@dataclass(frozen=True)
class Keys:
    """What opens a bucket. The secret is in no text that this is printed as."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    def as_json(self) -> str:
        """What stands in the parameter."""
        return json.dumps({"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key})

    @classmethod
    def from_json(cls, text: str) -> "Keys":
        """What a parameter says. Raises ValueError."""
        try:
            known = json.loads(text)
            return cls(str(known["access_key_id"]), str(known["secret_access_key"]))
        except (ValueError, KeyError, TypeError):
            raise ValueError("it is not what elastic bootstrap writes") from None


def keys_of(environ: Mapping[str, str]) -> Keys | None:
    """The keys in an environment; None: there are none. Raises UsageError for half of them."""
    found = environ.get(KEY_ID), environ.get(SECRET)
    match found:
        case (str(access_key_id), str(secret_access_key)) if access_key_id and secret_access_key:
            return Keys(access_key_id, secret_access_key)
        case (None | "", None | ""):
            return None
    missing = SECRET if found[0] else KEY_ID
    raise UsageError(f"{missing} is not set, and the other of the store's two keys is: set both of them, or neither.")


def store_keys(environ: Mapping[str, str]) -> Keys | None:
    """The keys of the store's own, if it has any. Raises UsageError, StoreDenied."""
    keys = keys_of(environ)
    if keys is None and (parameter := environ.get(PARAMETER)):
        return _fetched(parameter, environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1")
    return keys


@lru_cache(maxsize=4)
def _fetched(parameter: str, region: str) -> Keys:
    """Asked for once in a process."""
    import boto3.session

    try:
        client = boto3.session.Session().client("ssm", region_name=region)
        answer = client.get_parameter(Name=parameter, WithDecryption=True)
        return Keys.from_json(answer["Parameter"].get("Value", ""))
    except (BotoCoreError, ClientError, ValueError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise StoreDenied(
            f"The store's keys cannot be read from the SSM parameter {parameter} in {region}: {said}. Run elastic "
            f"bootstrap again with {KEY_ID} and {SECRET}."
        ) from error
