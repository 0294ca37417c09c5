"""Leaving a request in the bucket for the controller, and saying so."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from orchestrator.cli.asking import Wanted, wanted_after
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.prose import say, suggest
from orchestrator.cli.starting_daemon import start_daemon_if_none
from orchestrator.controller.background import require_daemon_startable
from orchestrator.jobs.bucket import load_record
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import read_requests, send_request
from orchestrator.store.protocol import Store

AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""
_ASKED = {
    "cancel": "Asked to cancel {job}.",
    "pause": "Asked to pause {job}: it writes a checkpoint first.",
    "resume": "Asked to resume {job}.",
}


@dataclass(frozen=True)
class Asked:
    """A job of which something is asked, and what people want of it up to now, waiting requests included."""

    record: JobRecord
    wanted: Wanted

    @classmethod
    def of(cls, store: Store, job: str) -> "Asked":
        """Look it up. Raises UnknownJob."""
        record = load_record(store, job).value
        return cls(record, wanted_after(record, read_requests(store, job)))


def send(
    store: Store,
    asked: Asked,
    kind: Literal["cancel", "pause", "resume", "resize"],
    invocation: Invocation,
    *,
    no_daemon: bool,
    then: tuple[str, str],
    workers: int | None = None,
) -> None:
    """Ask the controller; see to it that there is one, and say what to type next."""
    if not no_daemon:
        require_daemon_startable(store)
    say(_ask(store, asked, kind, invocation, workers))
    if not no_daemon:
        start_daemon_if_none(store, invocation)
    suggest(then)


def send_cancels(store: Store, asked: Sequence[Asked], invocation: Invocation, *, no_daemon: bool) -> None:
    """The same for jobs that are to be cancelled, of which there may be thousands: several at once."""
    if not no_daemon:
        require_daemon_startable(store)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for sentence in pool.map(lambda each: _ask(store, each, "cancel", invocation), asked):
            say(sentence)
    if not no_daemon:
        start_daemon_if_none(store, invocation)
    one = len(asked) == 1
    suggest((f"elastic wait {asked[0].record.name}", "until it has ended") if one else ("elastic ps", "how they stand"))


def _ask(
    store: Store,
    asked: Asked,
    kind: Literal["cancel", "pause", "resume", "resize"],
    invocation: Invocation,
    workers: int | None = None,
) -> str:
    """Leave a request; what to say of it. To cancel what is being cancelled already is asked once."""
    job = asked.record.name
    if kind == "cancel" and asked.wanted == "cancel":
        return f"{job} is being cancelled already."
    send_request(store, job, kind, now=invocation.now(), by=invocation.asker(), nonce=invocation.nonce, workers=workers)
    if workers is not None:
        return f"Asked to resize {job} to {workers} workers, and to hold it there."
    return f"Asked to size {job} by its utilisation again." if kind == "resize" else _ASKED[kind].format(job=job)
