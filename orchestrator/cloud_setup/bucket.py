"""The store's bucket as a whole: whose it is, where, and how all of it is removed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from orchestrator.cloud_setup.clients import Clients
from orchestrator.cloud_setup.refusals import code_of
from orchestrator.errors import CredentialsError, ElasticError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

STACK_TAG = "elastic:stack"
"""On everything that the template makes; its value is the stack's name."""


@dataclass(frozen=True)
class Bucket:
    """A bucket of the account's own."""

    name: str
    stack: str | None
    """The stack that made it; None: it is somebody's own."""


def find_bucket(clients: Clients, name: str, account_id: str) -> Bucket | None:
    """The bucket of this name; None: there is none. Raises UsageError when it is another's or in another region."""
    with clients.explaining(f"look at the bucket {name}"):
        try:
            answer = clients.s3.head_bucket(Bucket=name, ExpectedBucketOwner=account_id)
        except ClientError as error:
            if _status_of(error) == 404:
                return None
            _check_region(clients, name, _headers_of(error).get("x-amz-bucket-region"))
            if _status_of(error) == 403:
                raise _not_ours(name, account_id) from error
            raise
        _check_region(clients, name, answer.get("BucketRegion"))
        try:
            tags = clients.s3.get_bucket_tagging(Bucket=name, ExpectedBucketOwner=account_id)["TagSet"]
        except ClientError as error:
            if code_of(error) != "NoSuchTagSet":
                raise
            tags = []
    return Bucket(name, next((tag["Value"] for tag in tags if tag["Key"] == STACK_TAG), None))


def check_bucket_region(clients: Clients, name: str) -> None:
    """Raise UsageError when a bucket, whoever's it is, is in another region than instances would be."""
    with clients.explaining(f"look at the bucket {name}"):
        try:
            answer = clients.s3.head_bucket(Bucket=name)
        except ClientError as error:
            _check_region(clients, name, _headers_of(error).get("x-amz-bucket-region"))
        else:
            _check_region(clients, name, answer.get("BucketRegion"))


def _status_of(error: ClientError) -> int | None:
    """To HEAD, S3 answers with a status and headers alone."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")


def _headers_of(error: ClientError) -> dict[str, str]:
    return error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})


def _not_ours(name: str, account_id: str) -> CredentialsError:
    return CredentialsError(
        f"The bucket {name} exists and belongs to another account than {account_id}, or these credentials may not see "
        "it (s3:ListBucket): name another with --bucket."
    )


def _check_region(clients: Clients, name: str, region: str | None) -> None:
    if region and region != clients.region:
        raise UsageError(
            f"The bucket {name} is in {region}, and instances would be in {clients.region}: every checkpoint would be "
            f"paid for as it leaves the region. Use --region {region}, or another bucket."
        )


def count_objects(clients: Clients, name: str, account_id: str) -> str:
    """How many objects there are, roughly: enough to know whether anything would be lost."""
    with clients.explaining(f"list the bucket {name}"):
        page = clients.s3.list_objects_v2(Bucket=name, ExpectedBucketOwner=account_id)
    return f"{'more than ' if page.get('IsTruncated') else ''}{page.get('KeyCount', 0):,} objects"


def remove_bucket(clients: Clients, name: str, account_id: str) -> int:
    """Remove a bucket with every version of everything in it; returns how many versions there were."""
    removed = 0
    with clients.explaining(f"remove the bucket {name}"):
        for some in _versions(clients, name, account_id):
            answer = clients.s3.delete_objects(
                Bucket=name, Delete={"Objects": some, "Quiet": True}, ExpectedBucketOwner=account_id
            )
            if failed := answer.get("Errors", []):
                first = failed[0]
                raise ElasticError(
                    f"Cannot remove {len(failed)} objects of {name}, the first is {first.get('Key')}: "
                    f"{first.get('Message')}. The bucket stays."
                )
            removed += len(some)
        for page in clients.s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
            for begun in page.get("Uploads", []):
                clients.s3.abort_multipart_upload(Bucket=name, Key=begun["Key"], UploadId=begun["UploadId"])
        clients.s3.delete_bucket(Bucket=name, ExpectedBucketOwner=account_id)
    return removed


def _versions(clients: Clients, name: str, account_id: str) -> "Iterator[list[ObjectIdentifierTypeDef]]":
    """Every version and every mark of a removed object, as many at a time as can be removed at once."""
    for page in clients.s3.get_paginator("list_object_versions").paginate(Bucket=name, ExpectedBucketOwner=account_id):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        some: list[ObjectIdentifierTypeDef] = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
        if some:
            yield some
