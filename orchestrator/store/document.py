"""JSON records that are only ever changed by compare-and-swap.

Every body carries a sequence number and a nonce, for two reasons. Identical bytes have identical etags, so a record
that goes from A to B and back to A would pass a comparison made before. And a reply can be lost after the write was
applied: the repeated request then comes back as a conflict with oneself. So after a conflict or a lost reply the record
is read back: one's own nonce means that it was written, anything else that somebody else was first. Nobody may fetch
the newer etag and simply write again: what is there now may call for another decision.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.store.protocol import Conflict, Object, ReplyLost, Store, StoreError


class Document(BaseModel):
    """A record in the store. Unknown fields are ignored, so that older code reads what newer code wrote."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seq: int = 0
    nonce: str = ""


M = TypeVar("M", bound=Document)

Nonce = Callable[[], str]
"""Makes a value that was never made before, anywhere."""


def random_nonce() -> str:
    """The nonce of real life: 96 random bits."""
    return secrets.token_hex(12)


@dataclass(frozen=True)
class Stored(Generic[M]):
    """A record as it is in the store, with the etag that a swap of it must name."""

    value: M
    etag: str


def load(store: Store, key: str, model: type[M]) -> Stored[M] | None:
    """Read a record; None when there is none. Raises `StoreError` when it cannot be read as the model."""
    found = store.get(key)
    return None if found is None else parse(store, found, model)


def parse(store: Store, found: Object, model: type[M]) -> Stored[M]:
    """The record in an object that was read already, for example by `get_if_changed`."""
    try:
        return Stored(model.model_validate_json(found.body), found.etag)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole of it"
        raise StoreError(
            f"{found.key} in {store.url} is no {model.__name__}: {first['msg']} ({where}). "
            "It was altered by hand, or written by a version of elastic that this one cannot read."
        ) from error


def create(store: Store, key: str, value: M, nonce: Nonce) -> Stored[M]:
    """Write a record that must not exist yet. Raises `Conflict` when it does, `ReplyLost` when nobody can tell."""
    new = _stamped(value, 1, nonce())
    return _write(store, key, new, lambda body: store.create(key, body))


def swap(store: Store, key: str, old: Stored[M], new: M, nonce: Nonce) -> Stored[M]:
    """Replace the record read as `old`. Raises `Conflict` when it is another by now, `ReplyLost` when nobody can tell.

    After a `Conflict`, load again and decide again. In one case the write was applied all the same: when its reply was
    lost and somebody else replaced it at once, or when it was delayed past the read-back. What is loaded then shows it.
    """
    stamped = _stamped(new, old.value.seq + 1, nonce())
    return _write(store, key, stamped, lambda body: store.replace(key, body, old.etag))


def _stamped(value: M, seq: int, nonce: str) -> M:
    return value.model_copy(update={"seq": seq, "nonce": nonce})


def _write(store: Store, key: str, new: M, write: Callable[[bytes], str]) -> Stored[M]:
    try:
        return Stored(new, write(new.model_dump_json().encode()))
    except (Conflict, ReplyLost) as outcome:
        found = read_back(store, key)
        if found is not None and _nonce_of(found) == new.nonce:
            return Stored(new, found.etag)
        if found is None and new.seq == 1:
            raise ReplyLost(f"{key} was sent and is not there: it may still come") from outcome
        raise Conflict(f"{key} was written by somebody else") from outcome


def read_back(store: Store, key: str) -> Object | None:
    """What is there after a write in doubt. Raises `ReplyLost` when nobody can tell."""
    try:
        return store.get(key)
    except StoreError as error:
        raise ReplyLost(f"Cannot tell whether {key} was written: it cannot be read back. {error}") from error


def _nonce_of(found: Object) -> str | None:
    try:
        return Document.model_validate_json(found.body).nonce
    except ValidationError:
        return None
