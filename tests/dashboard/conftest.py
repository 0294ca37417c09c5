"""The dashboard on a store in memory, with a clock that the test turns; and served on loopback, as for a person."""

import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest

from orchestrator.dashboard.app import application
from orchestrator.dashboard.job_page import JobPage
from orchestrator.dashboard.overview import Overview
from orchestrator.dashboard.pages import Pages
from orchestrator.dashboard.serving import listen, server
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Entry, Object, StoreError, Unchanged
from tests.cli.stored_jobs import NOW

PATIENCE_S = 30.0


class CountedStore(MemoryStore):
    """Counts what is asked of it, may be billed, and can be away or hang."""

    def __init__(self, *, billed: bool = False) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.error: StoreError | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._billed = billed

    @property
    def billed(self) -> bool:
        return self._billed

    def get(self, key: str) -> Object | None:
        self._ask("GET")
        return super().get(key)

    def get_if_changed(self, key: str, etag: str | None) -> Object | None | Literal[Unchanged.UNCHANGED]:
        return super().get_if_changed(key, etag)  # asks by `get`

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        self._ask("LIST")
        return super().list(prefix, start_after)

    def prefixes(self, prefix: str) -> Iterator[str]:
        self._ask("LIST")
        return super().prefixes(prefix)

    def _ask(self, what: str) -> None:
        self.asked[what] += 1
        assert self.goes_on.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error


@dataclass
class Clock:
    """Time that passes only when the test says so."""

    now_s: float = 1000.0
    wall: datetime = NOW

    def monotonic(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        return self.wall

    def passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket() -> Iterator[CountedStore]:
    store = CountedStore()
    yield store
    store.goes_on.set()


@pytest.fixture
def pages(bucket: CountedStore, clock: Clock) -> Pages:
    return Pages(bucket, clock.now, clock.monotonic)


def overview_of(pages: Pages) -> Overview:
    """The overview, which has to be there."""
    reading = pages.overview(PATIENCE_S)
    assert reading.value is not None, reading.error
    return reading.value


def job_of(pages: Pages, name: str = "digits") -> JobPage:
    """A job's page, which has to be there."""
    reading = pages.job(name, PATIENCE_S)
    assert reading.value is not None, reading.error
    return reading.value


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A dashboard that answers on loopback."""

    port: int
    faults: list[Exception] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request; headers are given with `_` for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read().decode())
        finally:
            connection.close()

    def ask_raw(self, request: bytes) -> bytes:
        """What comes back for these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def serving(pages: Pages) -> Iterator[Served]:
    """The real server, in a thread of this process; an answer waits for the store as long as this machine needs."""
    with listen(0, in_container=False) as listening, pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.dashboard.app.PATIENCE_S", PATIENCE_S)
        served = Served(listening.getsockname()[1])
        running = server(application(pages, served.port, served.faults.append))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield served
        finally:
            running.should_exit = True
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@pytest.fixture
def served(pages: Pages) -> Iterator[Served]:
    with serving(pages) as served:
        yield served
