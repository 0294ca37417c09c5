"""Making a store from its URL."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.errors import UsageError
from orchestrator.store.keys import check_key
from orchestrator.store.protocol import Store, StoreError

_KNOWN = "file:///DIRECTORY, a plain directory, or s3://BUCKET/PREFIX"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_ENCRYPTIONS = ("AES256", "aws:kms")


def open_store(url: str | None, environ: Mapping[str, str], *, hasty: bool = False) -> Store:
    """Open the store that is named, or else the one in `ELASTIC_STORE`, or else a directory of the user's own.

    `hasty` is for who asks again anyway and has other things to do meanwhile: a bucket's store then sends each request
    once and waits 3 s for an answer; other stores are the same as ever.

    Raises `UsageError` for a URL that names no store and a directory that cannot be used. A bucket is not contacted.
    """
    url = url or environ.get("ELASTIC_STORE")
    if not url:
        return _local(_default_directory())
    scheme = _SCHEME.match(url)
    if scheme is None:
        return _local(Path(url).expanduser())
    if _may_show_a_password(url, scheme[0].lower()):
        raise UsageError(
            f"The store's URL has a user or a password in it, or an '@': use {_KNOWN}, and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY."
        )
    try:
        urlsplit(url)
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL ({error}): use {_KNOWN}.") from error
    match scheme[0].lower():
        case "file:":
            return _local(_file_path(url))
        case "s3:":
            return _s3(url, environ, hasty)
        case "memory:" if url.lower() == "memory:":
            from orchestrator.store.memory import MemoryStore

            return MemoryStore()
    raise UsageError(f"{url!r} is no store that elastic knows: use {_KNOWN}.")


def _may_show_a_password(url: str, scheme: str) -> bool:
    """Whether there is a user in it, by the rules or nearly; a directory may have an `@` in its name."""
    return "@" in (url.split("/", 3)[2:3] or [""])[0] if scheme == "file:" else "@" in url


def _default_directory() -> Path:
    from platformdirs import user_data_path

    return user_data_path("elastic", appauthor=False) / "store"


def _file_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UsageError(f"{url!r} names no directory: write file:/// and an absolute path.")
    if parts.query or parts.fragment:
        raise UsageError(f"{url!r} has a '?' or '#' in it: write %3F or %23, or give the plain path.")
    return Path(unquote(parts.path))


def _local(directory: Path) -> Store:
    from orchestrator.store.local import LocalStore

    return LocalStore(directory)


def _s3(url: str, environ: Mapping[str, str], hasty: bool) -> Store:
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if _BUCKET.fullmatch(parts.netloc) is None or parts.query or parts.fragment:
        raise UsageError(f"{url!r} names no bucket: write s3://BUCKET/PREFIX, with the bucket's name as S3 allows it.")
    try:
        if prefix:
            check_key(prefix)
    except StoreError as error:
        raise UsageError(f"The prefix in {url!r} cannot be used. {error}") from error
    return _connected(parts.netloc, prefix, environ, hasty)


def _connected(bucket: str, prefix: str, environ: Mapping[str, str], hasty: bool) -> Store:
    from orchestrator.store.s3 import (
        HASTY,
        PATIENT,
        Settings,
        connect,
    )  # brings boto3, which a local store does without

    encryption, kms_key_id = environ.get("ELASTIC_S3_SSE") or None, environ.get("ELASTIC_S3_KMS_KEY_ID") or None
    if encryption not in (None, *_ENCRYPTIONS):
        raise UsageError(
            f"ELASTIC_S3_SSE={encryption} is no encryption that S3 knows: use {' or '.join(_ENCRYPTIONS)}."
        )
    if kms_key_id and encryption != "aws:kms":
        raise UsageError("ELASTIC_S3_KMS_KEY_ID names a key, which is only used with ELASTIC_S3_SSE=aws:kms.")
    settings = Settings(environ.get("ELASTIC_BUCKET_OWNER"), encryption, kms_key_id)
    return connect(bucket, prefix, settings, patience=HASTY if hasty else PATIENT)
