"""Logs on their way to the bucket: every byte once, in order, the tail after two seconds at most."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.agent import logs
from orchestrator.agent.logs import CHUNK_BYTES, LogShipper, Stream
from orchestrator.jobs import layout
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Store
from tests.support.interposed import Away, InterposedStore, LostReplies, undisturbed
from tests.support.waiting import wait_until

RANK = layout.rank_stream(0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the patience that real life asks for."""
    monkeypatch.setattr(logs, "SHIP_EVERY_S", 0.02)
    monkeypatch.setattr(logs, "RETRY_AT_END_S", 0.02)


@pytest.fixture
def shaky(store: MemoryStore) -> InterposedStore:
    return InterposedStore(store)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdout.log"


@pytest.fixture
def shipper(shaky: InterposedStore, log: Path) -> Iterator[LogShipper]:
    shipper = LogShipper(shaky, [Stream(files=lambda: [log], key=lambda n: layout.log_key("digits", 1, RANK, n))])
    yield shipper
    shaky.around = undisturbed
    shipper.finish(10)


def shipped(store: Store) -> bytes:
    """The stream, put together again."""
    keys = [entry.key for entry in store.list(layout.logs_prefix("digits", 1, RANK))]
    bodies = [store.get(key) for key in keys]
    return b"".join(found.body for found in bodies if found is not None)


def append(log: Path, data: bytes) -> None:
    with open(log, "ab") as file:
        file.write(data)


def test_at_most_two_seconds_of_a_tail_are_lost_if_all_dies_at_once(
    shipper: LogShipper, log: Path, store: MemoryStore
) -> None:
    """With the real pace: what was written two seconds ago is in the bucket."""
    append(log, b"first\n")
    began = time.monotonic()
    wait_until(lambda: shipped(store) == b"first\n", "it is there", 10)
    assert time.monotonic() - began < 3, "two seconds, and one for a busy machine"


@pytest.mark.usefixtures("quick")
def test_whole_lines_are_shipped_and_the_last_one_at_the_end(
    shipper: LogShipper, log: Path, store: MemoryStore
) -> None:
    append(log, b"one\ntw")
    wait_until(lambda: shipped(store) == b"one\n", "the whole line is there", 10)
    append(log, b"o\nthree")
    wait_until(lambda: shipped(store) == b"one\ntwo\n", "the next line is there", 10)
    shipper.finish(10)
    assert shipped(store) == b"one\ntwo\nthree"


@pytest.mark.usefixtures("quick")
def test_what_is_long_goes_in_pieces(shipper: LogShipper, log: Path, store: MemoryStore) -> None:
    content = b"".join(b"line %d\n" % number for number in range(300_000))
    append(log, content)
    append(log, b"x" * (2 * CHUNK_BYTES))  # a line without an end
    shipper.finish(20)
    assert shipped(store) == content + b"x" * (2 * CHUNK_BYTES)
    assert max(entry.size for entry in store.list(layout.logs_prefix("digits"))) <= CHUNK_BYTES


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_reply_neither_doubles_nor_drops_a_line(
    shipper: LogShipper, log: Path, shaky: InterposedStore, store: MemoryStore, applied: bool
) -> None:
    shaky.around = lost = LostReplies(".log", applied=applied, times=3)
    for number in range(30):
        append(log, b"line %d\n" % number)
        time.sleep(0.005)
    shipper.finish(10)
    assert lost.times == 0
    assert shipped(store) == b"".join(b"line %d\n" % number for number in range(30))


@pytest.mark.usefixtures("quick")
def test_what_could_not_be_shipped_is_shipped_when_the_store_is_back(
    shipper: LogShipper, log: Path, shaky: InterposedStore, store: MemoryStore
) -> None:
    shaky.around = away = Away()
    append(log, b"one\n")
    wait_until(lambda: away.asked > 2, "it has tried", 10)
    append(log, b"two\n")
    away.away = False
    wait_until(lambda: shipped(store) == b"one\ntwo\n", "both are there", 10)


@pytest.mark.usefixtures("quick")
def test_at_the_end_it_tries_until_its_time_is_up(
    shipper: LogShipper, log: Path, shaky: InterposedStore, store: MemoryStore
) -> None:
    shaky.around = away = Away()
    append(log, b"the last word")
    threading.Timer(0.2, lambda: setattr(away, "away", False)).start()
    shipper.finish(10)
    assert shipped(store) == b"the last word"


@pytest.mark.usefixtures("quick")
def test_a_store_that_stays_away_costs_the_tail_and_not_the_agent(
    shipper: LogShipper, log: Path, shaky: InterposedStore, store: MemoryStore
) -> None:
    shaky.around = Away()
    append(log, b"the last word")
    began = time.monotonic()
    shipper.finish(0.2)
    assert time.monotonic() - began < 5
    wait_until(lambda: not shipper._thread.is_alive(), "its thread has ended", 10)


@pytest.mark.usefixtures("quick")
def test_two_streams_do_not_wait_for_each_other(shaky: InterposedStore, store: MemoryStore, tmp_path: Path) -> None:
    """One cannot be stored at all; the other is whole."""
    paths = [tmp_path / "0.log", tmp_path / "1.log"]
    for path in paths:
        append(path, b"a line\n")
    streams = [
        Stream(files=lambda: paths[:1], key=lambda n: f"no key {n}"),
        Stream(files=lambda: paths[1:], key=lambda n: layout.log_key("digits", 1, RANK, n)),
    ]
    shipper = LogShipper(shaky, streams)
    shipper.finish(0.5)
    assert shipped(store) == b"a line\n"


@pytest.mark.usefixtures("quick")
def test_of_standard_output_and_error_one_stream_is_made(shaky: InterposedStore, store: MemoryStore, tmp_path: Path) -> None:  # fmt: skip # noqa: E501
    out, error = tmp_path / "stdout.log", tmp_path / "stderr.log"
    stream = Stream(files=lambda: [error, out], key=lambda n: layout.log_key("digits", 1, RANK, n))
    shipper = LogShipper(shaky, [stream])
    append(out, b"a word\n")
    append(error, b"a warning\n")
    shipper.finish(10)
    assert sorted(shipped(store).splitlines()) == [b"a warning", b"a word"]


@pytest.mark.usefixtures("quick")
def test_a_file_that_is_not_there_yet_is_waited_for(shipper: LogShipper, log: Path, store: MemoryStore) -> None:
    assert not log.exists()
    append(log, b"late\n")
    wait_until(lambda: shipped(store) == b"late\n", "it is there", 10)


@pytest.mark.usefixtures("quick")
def test_chunks_of_an_agent_that_was_here_before_stay_as_they_are(store: MemoryStore, log: Path) -> None:
    store.create(layout.log_key("digits", 1, RANK, 0), b"from before\n")
    append(log, b"a line\n")
    shipper = LogShipper(store, [Stream(files=lambda: [log], key=lambda n: layout.log_key("digits", 1, RANK, n))])
    shipper.finish(10)
    assert shipped(store) == b"from before\na line\n"
