"""What S3's answers mean: for the store, one of seven; for a person, a sentence.

S3 itself and the servers that speak its protocol differ in details (a missing key under If-Match is 404 on AWS and 412
elsewhere), so codes are looked up first and the HTTP status decides where the code is unknown.
"""

import ssl
from collections.abc import Mapping
from enum import Enum, auto
from traceback import walk_tb
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    ResponseStreamingError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_match_hostname import CertificateError

from orchestrator.store.protocol import (
    BucketMissing,
    NotAllowed,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    Unsupported,
)

Failure = ClientError | BotoCoreError | ResponseParserError
FAILURES: Final = (ClientError, BotoCoreError, ResponseParserError)


class Answer(Enum):
    """Everything but success."""

    UNCHANGED = auto()  # it still has that etag
    ABSENT = auto()  # no such key, or no such unfinished upload
    LOST = auto()  # the condition does not hold
    BUSY = auto()  # another conditional write of the key is under way: send the same again
    LATER = auto()  # not applied: send it again
    UNKNOWN = auto()  # perhaps applied, perhaps not: send it again, and remember that
    REFUSED = auto()  # sending it again would not help


_BY_CODE: Final[dict[str, Answer]] = {
    "NotModified": Answer.UNCHANGED,
    "NoSuchKey": Answer.ABSENT,
    "NoSuchBucket": Answer.REFUSED,
    "NoSuchUpload": Answer.ABSENT,
    "PreconditionFailed": Answer.LOST,
    "ConditionalRequestConflict": Answer.BUSY,
    "OperationAborted": Answer.LATER,
    "SlowDown": Answer.LATER,
    "ServiceUnavailable": Answer.LATER,
    "Throttling": Answer.LATER,
    "ThrottlingException": Answer.LATER,
    "RequestLimitExceeded": Answer.LATER,
    "RequestTimeout": Answer.LATER,  # the body did not arrive in time
    "InternalError": Answer.UNKNOWN,
    "NotImplemented": Answer.REFUSED,
}

_BY_STATUS: Final[dict[int, Answer]] = {
    304: Answer.UNCHANGED,
    404: Answer.ABSENT,
    412: Answer.LOST,
    429: Answer.LATER,
    500: Answer.UNKNOWN,
    502: Answer.UNKNOWN,
    503: Answer.UNKNOWN,  # where S3 says so itself, by a code, nothing was applied; a proxy's may come after it was
    504: Answer.UNKNOWN,
}

_NOT_CONNECTED: Final = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
_BROKEN_OFF: Final = (HTTPClientError, IncompleteReadError, ResponseParserError)
NO_CREDENTIALS: Final = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    SSOError,
)

_GETS_CREDENTIALS: Final = "botocore.credentials"

_LOG_IN: Final = "log in again, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_CREDENTIAL_CODES: Final[dict[str, str]] = {
    "ExpiredToken": f"the credentials have expired: {_LOG_IN}",
    "ExpiredTokenException": f"the credentials have expired: {_LOG_IN}",
    "TokenRefreshRequired": f"the credentials have expired: {_LOG_IN}",
    "InvalidToken": f"the session token is not valid: {_LOG_IN}",
    "InvalidAccessKeyId": f"the access key does not exist there: {_LOG_IN}",
    "SignatureDoesNotMatch": f"the secret key is wrong: {_LOG_IN}",
}
_DENIED_CODES: Final = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"}

_ELSEWHERE_CODES: Final = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
}

_PERMISSION: Final[dict[str, str]] = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "ListObjectsV2": "s3:ListBucket",
}


def code_of(failure: Failure) -> str:
    """S3's error code; empty where no answer came."""
    return failure.response.get("Error", {}).get("Code", "") if isinstance(failure, ClientError) else ""


def _status_of(failure: ClientError) -> int:
    return failure.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def failure_of(error: Exception) -> Failure | None:
    """What went wrong with a request, of all that one may raise; None: something else did.

    botocore translates only some of what may happen while a body is read, and nothing of what may while it gets
    credentials.
    """
    if isinstance(error, FAILURES):
        return error
    if isinstance(error, HTTPError):
        return ResponseStreamingError(error=error)
    if _is_of_credentials(error):
        return failure_of_credentials(error)
    return None


def failure_of_credentials(error: Exception) -> CredentialRetrievalError:
    """botocore's error for what a provider of credentials has raised of Python's own."""
    return CredentialRetrievalError(provider="where they are configured", error_msg=str(error).rstrip("."))


def _is_of_credentials(error: Exception) -> bool:
    """Whether it was raised while botocore got credentials: only the place tells, the kinds are Python's own.

    A `credential_process` that cannot be started, prints no JSON, or gives credentials that have expired comes as
    OSError, ValueError and RuntimeError.
    """
    return any(frame.f_globals.get("__name__") == _GETS_CREDENTIALS for frame, _ in walk_tb(error.__traceback__))


def classify(failure: Failure) -> Answer:
    """What a failed request means for the store."""
    if isinstance(failure, ClientError):
        by_status = _BY_STATUS.get(_status_of(failure), Answer.REFUSED)
        if by_status is Answer.ABSENT and failure.operation_name != "HeadObject":
            by_status = Answer.REFUSED  # S3 names what is absent, but to HEAD; a proxy's 404 says nothing of the key
        return _BY_CODE.get(code_of(failure), by_status)
    if isinstance(failure, _NOT_CONNECTED):
        return Answer.LATER
    if isinstance(failure, SSLError):
        # A certificate does not become right by trying again; all else may come when the request was carried out.
        return Answer.REFUSED if _is_of_certificate(failure) else Answer.UNKNOWN
    return Answer.UNKNOWN if isinstance(failure, _BROKEN_OFF) else Answer.REFUSED


def _is_of_certificate(failure: SSLError) -> bool:
    """Whether the server's certificate was refused, for who signed it, its time or its name."""
    why = failure.kwargs.get("error")  # urllib3's, around what it is about
    return any(isinstance(cause, ssl.SSLCertVerificationError | CertificateError) for cause in getattr(why, "args", ()))


def explain(failure: Failure, key: str, bucket: str, endpoint: str) -> StoreError:
    """The error for a person: which request, for which key, what S3 said and what to do."""
    if isinstance(failure, ClientError):
        return _explain_answer(failure, key, bucket, endpoint)
    if isinstance(failure, NO_CREDENTIALS):
        return StoreDenied(no_credentials(f"s3://{bucket}", failure))
    if isinstance(failure, HTTPClientError | ConnectTimeoutError | EndpointConnectionError | SSLError):
        return StoreUnreachable(
            f"s3://{bucket} does not answer at {endpoint} ({failure}): check the network, AWS_REGION and "
            "AWS_ENDPOINT_URL_S3."
        )
    if isinstance(failure, ResponseParserError):
        return StoreUnreachable(f"Cannot read {key or 'the listing'} in s3://{bucket}: {not_s3(endpoint)}")
    return StoreError(f"Cannot reach {key or 'the objects'} in s3://{bucket}: {failure}.")


def no_credentials(for_what: str, failure: Failure) -> str:
    """The sentence about credentials that could not be got."""
    return f"No AWS credentials for {for_what} ({failure}): {_LOG_IN}."


def not_s3(endpoint: str) -> str:
    """The sentence about something that answers, and not as S3 does."""
    return f"what answers at {endpoint} is not S3: check AWS_ENDPOINT_URL_S3, and whether a proxy is in between."


def _explain_answer(failure: ClientError, key: str, bucket: str, endpoint: str) -> StoreError:
    code, operation = code_of(failure), failure.operation_name
    what = f"{operation} of {key or 'the listing'} in s3://{bucket}"
    if code == "NoSuchBucket":
        return BucketMissing(f"There is no bucket {bucket} at {endpoint}: create it, or name another.")
    if code == "RequestTimeTooSkewed":
        return StoreDenied(f"{what} was refused: this machine's clock is wrong{_clocks(failure)}: set it.")
    if code in _CREDENTIAL_CODES:
        return StoreDenied(f"{what} was refused: {_CREDENTIAL_CODES[code]}.")
    if code in _DENIED_CODES or _status_of(failure) == 403:
        permission = _PERMISSION.get(operation, "s3:PutObject")
        return NotAllowed(
            f"{what} was refused ({code}): these credentials need {permission}, and s3:ListBucket to be told when a "
            "key is missing. Where ELASTIC_BUCKET_OWNER is set, the bucket must belong to that account."
        )
    if code == "NotImplemented" or _status_of(failure) == 501:
        return Unsupported(f"{what}: {endpoint} does not implement it. Use a store that has conditional writes.")
    if code in _ELSEWHERE_CODES:
        region = _region_of(failure)
        other, its_own = (f"another region, {region}", region) if region else ("another region", "its own")
        return StoreUnreachable(f"{what} failed: the bucket is in {other} ({code}). Set AWS_REGION to {its_own}.")
    if _status_of(failure) == 404:
        return StoreUnreachable(f"{what}: {not_s3(endpoint)}")
    message = failure.response.get("Error", {}).get("Message", "no message")
    return StoreError(f"{what} failed at {endpoint}: {code} ({message}).")


def _clocks(failure: ClientError) -> str:
    """What time it is here and there, where the answer says so."""
    said: Mapping[str, object] = failure.response.get("Error", {})
    here, there = said.get("RequestTime"), said.get("ServerTime")
    return f" (it says {here}, the service's {there})" if here and there else ""


def _region_of(failure: ClientError) -> str:
    """Where the bucket is, if the answer says so."""
    said: Mapping[str, object] = failure.response.get("Error", {})
    headers = failure.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(said.get("Region") or headers.get("x-amz-bucket-region") or "")
