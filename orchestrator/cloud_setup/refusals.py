"""What AWS's refusals mean to who sets up an account: each one sentence, with what to do.

A right that is missing is named with the statement that gives it, ready for a policy.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from orchestrator.errors import CredentialsError, ElasticError, UsageError
from orchestrator.fleets.ec2.errors import missing_right as refused
from orchestrator.store.s3_answers import NO_CREDENTIALS

_LOG_IN: Final = "log in again, or name a profile with --profile"
_CLOCK: Final = "this machine's clock is wrong: set it (timedatectl set-ntp true)"
_CREDENTIAL_CODES: Final[dict[str, str]] = {
    "ExpiredToken": f"the credentials have expired: {_LOG_IN}",
    "ExpiredTokenException": f"the credentials have expired: {_LOG_IN}",
    "InvalidClientTokenId": f"the access key does not exist, or the region is not enabled for the account: {_LOG_IN}",
    "UnrecognizedClientException": f"the access key does not exist there: {_LOG_IN}",
    "InvalidAccessKeyId": f"the access key does not exist: {_LOG_IN}",
    "SignatureDoesNotMatch": f"the secret key is wrong: {_LOG_IN}",
    "InvalidSignatureException": f"the secret key is wrong: {_LOG_IN}",
    "IncompleteSignature": f"the access key or the secret key is no such thing: {_LOG_IN}",
    "AuthFailure": f"the credentials are not valid in this region, or this machine's clock is wrong: {_LOG_IN}",
    "RequestExpired": f"the credentials have expired, or this machine's clock is wrong: {_LOG_IN}",
    "RequestTimeTooSkewed": _CLOCK,
    "OptInRequired": "the account is not signed up for this service, or the region is not enabled for it",
}
_OF_THE_CLOCK: Final = re.compile(r"Signature (expired|not yet current)", re.IGNORECASE)
_DENIED: Final = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_THROTTLED: Final = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"}


@contextmanager
def explained(doing: str, region: str, regions: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Turn what botocore raises into errors for a person; `doing` is what was tried, `regions` tells which exist."""
    try:
        yield
    except (ClientError, BotoCoreError) as failure:
        raise explain(failure, doing, region, regions) from failure


def explain(
    failure: ClientError | BotoCoreError, doing: str, region: str, regions: Callable[[], Sequence[str]]
) -> ElasticError:
    """The error for a person."""
    if isinstance(failure, ClientError):
        return _explain_answer(failure, doing)
    if isinstance(failure, NO_CREDENTIALS):
        return CredentialsError(f"Cannot {doing}: there are no AWS credentials ({failure}): {_LOG_IN}.")
    if isinstance(failure, HTTPClientError | ConnectTimeoutError | EndpointConnectionError):
        return UsageError(f"Cannot {doing}: nothing answers ({failure}). {_about(region, regions())}")
    return ElasticError(f"Cannot {doing}: {failure}")


def code_of(failure: ClientError) -> str:
    """AWS's error code."""
    return str(failure.response.get("Error", {}).get("Code", ""))


def message_of(failure: ClientError) -> str:
    """AWS's sentence, without a full stop at its end."""
    return str(failure.response.get("Error", {}).get("Message", "no message")).strip().rstrip(".")


def missing_right(words: str) -> str | None:
    """The right that AWS says is missing, with the statement to add; None: the words are of something else."""
    action, resource = refused(words, "")
    if ":" not in action:
        return None
    if "explicit deny" in words:
        return f"a policy denies {action} on {resource} explicitly"
    statement = json.dumps({"Effect": "Allow", "Action": action, "Resource": resource})
    return f"these credentials lack {action}; add to their policy: {statement}"


def _explain_answer(failure: ClientError, doing: str) -> ElasticError:
    code, message = code_of(failure), message_of(failure)
    if _OF_THE_CLOCK.search(message):
        return CredentialsError(f"Cannot {doing}: {_CLOCK} ({message}).")
    if code in _CREDENTIAL_CODES:
        return CredentialsError(f"Cannot {doing}: {_CREDENTIAL_CODES[code]} ({code}).")
    if (right := missing_right(message)) is not None:
        return CredentialsError(f"Cannot {doing}: {right}")
    if code in _DENIED or failure.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 403:
        return CredentialsError(f"Cannot {doing}: {failure.operation_name} was refused ({code}: {message}).")
    if code in _THROTTLED:
        return ElasticError(f"Cannot {doing}: AWS takes no more requests now ({code}). Run it again in a minute.")
    return ElasticError(f"Cannot {doing}: {failure.operation_name} failed with {code} ({message}).")


def _about(region: str, regions: Sequence[str]) -> str:
    if region not in regions:
        near = difflib.get_close_matches(region, regions, n=2)
        meant = f"; is {' or '.join(near)} meant?" if near else "."
        return f"No region that elastic knows is called {region}{meant}"
    return "Check the network and the region."
