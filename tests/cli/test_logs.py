"""Logs: chunks in the store, one text on stdout."""

from collections.abc import Callable, Iterator

import pytest

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.printing_logs import LogPrinter, follow_logs
from orchestrator.jobs.pace import pace_of
from orchestrator.jobs.phases import JobPhase
from orchestrator.reading.log_reading import LogStream
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Entry, Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import finish, log, put_training


@pytest.fixture
def job(store: Store) -> Store:
    """A job whose first generation said three lines in two chunks, and whose second has said one."""
    put_training(store)
    log(store, "digits", 1, 0, b"one\ntwo\n")
    log(store, "digits", 1, 1, b"three\n")
    log(store, "digits", 2, 0, b"four \xe2\x88\x9a\n")
    log(store, "digits", 2, 0, b"other\n", stream="rank00001")
    log(store, "digits", 2, 0, b"torchrun\n", stream="node000-launcher")
    return store


def test_the_latest_generation_is_shown_byte_for_byte(job: Store, elastic: Elastic) -> None:
    outcome = elastic("logs", "digits")
    assert (outcome.code, outcome.out, outcome.err) == (0, "four √\n", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--generation", "1"], "one\ntwo\nthree\n"),
        (["--generation", "1", "--tail", "2"], "two\nthree\n"),
        (["-g", "1", "-n", "0"], ""),
        (["-g", "1", "-n", "9"], "one\ntwo\nthree\n"),
        (["--rank", "1"], "other\n"),
        (["--launcher"], "torchrun\n"),
    ],
)
def test_which_log_and_how_much_of_it(job: Store, elastic: Elastic, options: list[str], text: str) -> None:
    assert elastic("logs", "digits", *options).out == text


@pytest.mark.parametrize(
    ("options", "there_are"),
    [(["--generation", "7"], "there are 1, 2"), (["--rank", "5"], "there are node000-launcher, rank00000, rank00001")],
)
def test_what_is_not_there_is_refused_with_what_is(
    job: Store, elastic: Elastic, options: list[str], there_are: str
) -> None:
    outcome = elastic("logs", "digits", *options)
    assert outcome.code == 2
    assert there_are in outcome.err


def test_a_job_without_logs_says_so(store: Store, elastic: Elastic) -> None:
    put_training(store)
    outcome = elastic("logs", "digits")
    assert outcome.code == 2
    assert "no logs yet" in outcome.err


def test_following_goes_on_with_the_next_generation_until_the_job_is_over(job: Store, elastic: Elastic) -> None:
    finish(job, "digits", JobPhase.SUCCEEDED, "finished")
    assert elastic("logs", "digits", "-f").out == "four √\n"
    assert elastic("logs", "digits", "-f", "-g", "1").out == "one\ntwo\nthree\n"


def test_a_stream_goes_on_where_the_last_read_ended(job: Store) -> None:
    stream = LogStream(job, "digits", 1, "rank00000")
    assert stream.tail(1) == b"three\n"
    assert list(stream.new_chunks()) == []
    log(job, "digits", 1, 2, b"more\n")
    assert list(stream.new_chunks()) == [b"more\n"]


def test_following_prints_what_comes_while_it_looks(store: Store, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    put_training(store)
    happenings: Iterator[Callable[[], None]] = iter(
        [
            lambda: log(store, "digits", 1, 0, b"one\n"),
            lambda: log(store, "digits", 1, 1, b"two\n"),
            lambda: log(store, "digits", 2, 0, b"three\n"),
            lambda: finish(store, "digits", JobPhase.SUCCEEDED, "finished"),
        ]
    )
    printer = LogPrinter(store, "digits", "rank00000", generation=None, tail=None)
    follow_logs(printer, Invocation(environ={}, sleep=lambda _: next(happenings)()))
    printed = capfdbinary.readouterr()
    assert printed.out == b"one\ntwo\nthree\n"
    assert b"generation 2" in printed.err


class BilledStore(MemoryStore):
    """Somebody pays for each request."""

    def __init__(self) -> None:
        super().__init__()
        self.listings = 0

    @property
    def billed(self) -> bool:
        return True

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        self.listings += prefix.startswith("jobs/digits/logs/")
        return super().list(prefix, start_after)


def test_where_requests_are_billed_logs_are_listed_as_often_as_agents_ship_any(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    store, now_s = BilledStore(), 0.0
    put_training(store)
    log(store, "digits", 1, 0, b"one\n")

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        if now_s >= 60:
            log(store, "digits", 1, 1, b"last words\n")
            finish(store, "digits", JobPhase.SUCCEEDED, "finished")

    printer = LogPrinter(store, "digits", "rank00000", generation=None, tail=None)
    follow_logs(printer, Invocation(environ={}, sleep=sleep, monotonic=lambda: now_s))
    assert capfdbinary.readouterr().out == b"one\nlast words\n"
    assert store.listings <= 60 / pace_of(billed=True).ship_logs_s + 2
