"""What an endpoint's URL tells: is it usable, does it cost money, whose is it.

An endpoint that cannot be used is never quoted: there may be a password in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

from orchestrator.errors import UsageError
from orchestrator.store.protocol import StoreDenied
from orchestrator.store.s3_answers import NO_CREDENTIALS, failure_of, no_credentials

_OF_ONES_OWN = (".local", ".internal", ".lan", ".localhost", ".svc")  # `.cluster.local` is one of the first


def is_amazons(endpoint: str) -> bool:
    """Whether this is AWS itself, which has a host name for each bucket and S3's newest checksums."""
    return ".amazonaws." in endpoint


def is_billed(endpoint: str) -> bool:
    """Whether requests there cost money, as far as the host tells: all do but those to a network of one's own."""
    host = (urlsplit(endpoint).hostname or "").rstrip(".")
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(_OF_ONES_OWN)


@contextmanager
def settings_explained() -> Iterator[None]:
    """Turn what botocore says of its settings while a client is made into a `UsageError`, of credentials into a denial.

    Some credentials are got then, and some when the first request is made.
    """
    try:
        yield
    except Exception as error:
        failure = failure_of(error)
        if isinstance(failure, NO_CREDENTIALS):
            raise StoreDenied(no_credentials("S3", failure)) from error
        if failure is not None:
            said = " ".join(str(failure).split()).rstrip(".")
            raise UsageError(
                f"The settings for AWS cannot be used: {said}. Check AWS_PROFILE and AWS_REGION."
            ) from error
        if not isinstance(error, ValueError):
            raise
        raise UsageError(
            "The endpoint of S3 is no URL: write AWS_ENDPOINT_URL_S3 as http://HOST:PORT or https://HOST."
        ) from None


def check_endpoint(endpoint: str) -> None:
    """Raise `UsageError` for one with a user or password in it, which every error about it would show."""
    if "@" in endpoint:
        raise UsageError(
            "The endpoint of S3 has a user or a password in it, or an '@': leave them out of AWS_ENDPOINT_URL_S3, and "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
