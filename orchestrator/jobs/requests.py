"""What a person asks of a job: objects that the controller carries out once and then removes."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.jobs import layout
from orchestrator.jobs.bell import ring
from orchestrator.store.document import Nonce, read_back
from orchestrator.store.protocol import Conflict, ReplyLost, Store


class Request(BaseModel):
    """One wish of one person."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    kind: Literal["cancel", "pause", "resume", "resize"]
    at: datetime
    by: str
    workers: int | None = None
    """For resize: how many workers in all; None: back to automatic scaling."""


def send_request(
    store: Store,
    job: str,
    kind: Literal["cancel", "pause", "resume", "resize"],
    *,
    now: datetime,
    by: str,
    nonce: Nonce,
    workers: int | None = None,
) -> Request:
    """Leave a request in the bucket; its name sorts by time.

    It is read back where the reply was lost: if it is there it is carried out, and whoever asked should know. Raises
    `ReplyLost` when nobody can tell.
    """
    request = Request(id=f"{now:%Y%m%dT%H%M%S%f}-{nonce()[:8]}", kind=kind, at=now, by=by, workers=workers)
    key, body = layout.request_key(job, request.id), request.model_dump_json().encode()
    try:
        store.create(key, body)
    except (Conflict, ReplyLost):
        found = read_back(store, key)
        if found is None or found.body != body:
            raise
    ring(store, nonce)
    return request


def read_requests(store: Store, job: str) -> Iterator[Request]:
    """The requests that are waiting, oldest first; one that cannot be read is skipped, since it asks for nothing."""
    prefix = layout.requests_prefix(job)
    for entry in store.list(prefix):
        found = store.get(entry.key)
        if found is None:
            continue
        try:
            yield parse_request(found.body, entry.key.removeprefix(prefix).removesuffix(".json"))
        except ValueError:
            continue


def parse_request(body: bytes, name: str) -> Request:
    """A request as it was left under this name, which is its id whatever it says of itself. Raises ValueError."""
    return Request.model_validate_json(body).model_copy(update={"id": name})
