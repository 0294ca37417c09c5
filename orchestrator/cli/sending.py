"""Leaving a request in the bucket for the controller, and saying so."""

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
    """Ask the controller; see to it that there is one. To cancel what is being cancelled already is asked once."""
    job = asked.record.name
    if not no_daemon:
        require_daemon_startable(store)
    if kind == "cancel" and asked.wanted == "cancel":
        say(f"{job} is being cancelled already.")
        _see_to_it(store, invocation, no_daemon, then)
        return
    send_request(store, job, kind, now=invocation.now(), by=invocation.asker(), nonce=invocation.nonce, workers=workers)
    if workers is not None:
        say(f"Asked to resize {job} to {workers} workers, and to hold it there.")
    elif kind == "resize":
        say(f"Asked to size {job} by its utilisation again.")
    else:
        say(_ASKED[kind].format(job=job))
    _see_to_it(store, invocation, no_daemon, then)


def _see_to_it(store: Store, invocation: Invocation, no_daemon: bool, then: tuple[str, str]) -> None:
    if not no_daemon:
        start_daemon_if_none(store, invocation)
    suggest(then)
