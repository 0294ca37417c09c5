"""What holds of a store, for whoever considers one: more than the few conditions that are tried at each start.

Some of it everything rests on, some is used where it is there, some is tried only to be told. It takes some dozens of
requests and one file of two parts (32 MiB), all under keys of its own, which are removed.
"""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier

from orchestrator.store.document import Nonce
from orchestrator.store.parts import PART_BYTES
from orchestrator.store.probe import Check, probe
from orchestrator.store.protocol import UNCHANGED, Conflict, Missing, ReplyLost, Store, StoreError

_ROUNDS = 6
_NAMES = ("b", "a", "a-b", "a.b", "0010", "0009", "Z", "_")
_ALL_AGES_S = 10 * 365 * 86_400.0  # nobody's upload is so old: only asked whether it can be asked


class Need(StrEnum):
    """What a promise is to elastic."""

    REQUIRED = "required"
    USED = "used where there"
    NOT_USED = "not used"


@dataclass(frozen=True)
class Finding:
    """One promise that was tried, by a short name, and what it is needed for."""

    name: str
    need: Need
    check: Check


Trial = Callable[[Store, str], str | None]
"""Tries something below a directory of its own; gives what is wrong, or None."""


def examine(store: Store, nonce: Nonce) -> list[Finding]:
    """Try all of it. Raises `StoreError` where the store cannot be used at all."""
    found = [Finding("conditions", Need.REQUIRED, check) for check in probe(store, nonce).checks]
    root = f"control/probe/{nonce()}/"
    try:
        for name, need, promise, trial in _TRIALS:
            try:
                wrong = trial(store, f"{root}{name}/")
            except (Conflict, Missing, StoreError) as error:
                wrong = str(error) or type(error).__name__
            found.append(Finding(name, need, Check(promise, wrong is None, wrong or "yes")))
        found.append(Finding("absence", Need.NOT_USED, _how_absence_is_told(store, root, nonce)))
    finally:
        with suppress(StoreError):
            for entry in list(store.list(root)):
                store.delete(entry.key)
    return found


def _one_winner(store: Store, directory: str) -> str | None:
    start = Barrier(2)

    def contend(key: str, me: bytes) -> str:
        start.wait(60)
        try:
            store.create(key, me)
        except Conflict:
            return "lost"
        except ReplyLost:
            return "unknown"
        return "won"

    with ThreadPoolExecutor(2) as pool:
        for number in range(_ROUNDS):
            key = f"{directory}{number}"
            outcomes = list(pool.map(contend, (key, key), (b"0", b"1")))
            found = store.get(key)
            if outcomes.count("won") > 1 or (found is None and "won" in outcomes):
                return f"both won in round {number + 1} of {_ROUNDS}"
            if "won" in outcomes and found is not None and found.body != str(outcomes.index("won")).encode():
                return f"the object of the one that lost stayed, in round {number + 1} of {_ROUNDS}"
    return None


def _fresh_reads(store: Store, directory: str) -> str | None:
    key = f"{directory}key"
    for number in range(_ROUNDS):
        body = str(number).encode()
        store.put(key, body)
        found = store.get(key)
        if found is None or found.body != body:
            return "an older object was read"
    store.delete(key)
    return None if store.get(key) is None else "a removed object was read"


def _fresh_listing(store: Store, directory: str) -> str | None:
    key = f"{directory}key"
    store.create(key, b"1")
    if [entry.key for entry in store.list(directory)] != [key]:
        return "what was just written was not listed"
    store.delete(key)
    return None if not list(store.list(directory)) else "what was just removed was still listed"


def _order(store: Store, directory: str) -> str | None:
    for name in _NAMES:
        store.create(f"{directory}{name}", b"")
    listed = [entry.key.removeprefix(directory) for entry in store.list(directory)]
    if listed != sorted(_NAMES):
        return f"listed as {' '.join(listed)}"
    later = [entry.key.removeprefix(directory) for entry in store.list(directory, f"{directory}a")]
    return None if later == [name for name in listed if name > "a"] else f"after 'a' came {' '.join(later)}"


def _directories(store: Store, directory: str) -> str | None:
    for name in ("0002", "0001"):
        store.create(f"{directory}{name}/x/y", b"")
    listed = list(store.prefixes(directory))
    return None if listed == ["0001", "0002"] else f"listed as {' '.join(listed) or 'nothing'}"


def _parts(store: Store, directory: str) -> str | None:
    with TemporaryDirectory(prefix="elastic-probe-") as name:
        path, copy = Path(name) / "sent", Path(name) / "came"
        path.write_bytes(secrets.token_bytes(PART_BYTES + 1))
        sent = store.upload(path, f"{directory}file")
        return None if store.download(f"{directory}file", copy) == sent else "other bytes came back than were sent"


def _polling(store: Store, directory: str) -> str | None:
    etag = store.put(f"{directory}key", b"1")
    if store.get_if_changed(f"{directory}key", etag) is not UNCHANGED:
        return "it was sent again though unchanged"
    store.put(f"{directory}key", b"2")
    found = store.get_if_changed(f"{directory}key", etag)
    return None if found not in (None, UNCHANGED) else "a change was not seen"


def _sweeping(store: Store, directory: str) -> str | None:
    store.abort_uploads(directory, _ALL_AGES_S)
    return None


def _how_absence_is_told(store: Store, root: str, nonce: Nonce) -> Check:
    """AWS answers 404 where others answer 412; both are understood."""
    promise = "replacing a missing key is told apart from replacing a changed one"
    try:
        store.replace(f"{root}{nonce()}", b"", store.put(f"{root}absence", b""))
    except Conflict as conflict:
        as_absent = isinstance(conflict.__cause__, Missing)
        return Check(promise, as_absent, "yes (404)" if as_absent else "no: both are refused alike")
    except StoreError as error:
        return Check(promise, False, str(error))
    return Check(promise, False, "no: it was written")


_TRIALS: tuple[tuple[str, Need, str, Trial], ...] = (
    ("contention", Need.REQUIRED, "of two that create a key at once exactly one wins", _one_winner),
    ("reads", Need.REQUIRED, "a read sees the newest write", _fresh_reads),
    ("listing", Need.REQUIRED, "a listing sees a write at once", _fresh_listing),
    ("order", Need.REQUIRED, "a directory is listed in the byte order of names, from any of them on", _order),
    ("directories", Need.REQUIRED, "directories are listed by themselves, in order", _directories),
    ("parts", Need.REQUIRED, "a file of two parts goes up and comes down by ranges, unchanged", _parts),
    ("polling", Need.USED, "what has not changed is not sent again", _polling),
    ("sweeping", Need.USED, "unfinished uploads can be listed, to be ended", _sweeping),
)
