"""Object storage: the only state there is.

- `protocol`: what a store can do, and its errors; `keys`: which keys there may be
- `local`, `memory`, `s3`: the stores; `open`: makes one from a URL
- `s3_requests` and `s3_answers`: what is repeated, what answers mean; `s3_upload`, `s3_download`: large files in parts
- `source`: what others keep in a bucket, read only
- `document`: JSON records changed by compare-and-swap; `lease` and `owner`: who leads, on top of it
- `probe`: does a store keep its conditions? `examination`: what else holds of it?

Everything above may import this package; it imports nothing of elastic but the errors. boto3 comes in with the first
S3 store and not before.
"""

from orchestrator.store.open import open_store
from orchestrator.store.protocol import (
    UNCHANGED,
    Altered,
    BucketMissing,
    Conflict,
    Entry,
    Missing,
    Object,
    Progress,
    ReplyLost,
    Store,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    Unchanged,
    Unsupported,
)

__all__ = [
    "UNCHANGED",
    "Altered",
    "BucketMissing",
    "Conflict",
    "Entry",
    "Missing",
    "Object",
    "Progress",
    "ReplyLost",
    "Store",
    "StoreDenied",
    "StoreError",
    "StoreUnreachable",
    "Unchanged",
    "Unsupported",
    "open_store",
]
