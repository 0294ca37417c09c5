"""What compose.yaml does before the bucket is used: draw its keys, and make it.

    python3 private_bucket.py keys DIRECTORY    s3.json for SeaweedFS, credentials for whoever uses the bucket
    python private_bucket.py make NAME          once the server answers; it may be there

Both change nothing that is there. No key is printed.
"""

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Final

_BOUND_S: Final = 120.0


def draw_keys(directory: Path) -> None:
    """Two files, each there as a whole or not at all, for this user and group alone."""
    if (directory / "credentials").exists():
        return
    access, secret = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    identity = {
        "name": "elastic",
        "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    _write(directory / "s3.json", json.dumps({"identities": [identity]}))
    lines = f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
    _write(directory / "credentials", lines)


def _write(path: Path, text: str) -> None:
    half = path.with_suffix(".half")
    with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "w") as file:
        file.write(text)
    half.rename(path)


def make_bucket(name: str) -> None:
    """Make a bucket, and write to it once: the server may take seconds to find a place for the very first object."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    s3 = boto3.client("s3")
    give_up_s = time.monotonic() + _BOUND_S
    while True:
        try:
            if name not in (bucket["Name"] for bucket in s3.list_buckets()["Buckets"]):
                s3.create_bucket(Bucket=name)
            s3.put_object(Bucket=name, Key="first", Body=b"")
            s3.delete_object(Bucket=name, Key="first")
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > give_up_s:
                sys.exit(f"the bucket's server does not do what it should for {_BOUND_S:.0f} s: {error}")
        time.sleep(0.5)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["keys", directory]:
            draw_keys(Path(directory))
        case ["make", name]:
            make_bucket(name)
        case _:
            sys.exit(__doc__)
