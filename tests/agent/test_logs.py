"""Logs on their way to the bucket: every byte once, in order, the tail after two seconds at most."""

import errno
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.agent import logs
from orchestrator.agent.background import Threads
from orchestrator.agent.logs import CHUNK_BYTES, LogShipper, Stream
from orchestrator.agent.run_directory import LocalFile
from orchestrator.jobs import layout
from orchestrator.jobs.pace import QUICK
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Store
from tests.support.interposed import Away, InterposedStore, LostReplies, undisturbed
from tests.support.waiting import wait_until

RANK = layout.rank_stream(0)


SHIP_EVERY_S = 0.02


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end, without the patience that real life asks for."""
    monkeypatch.setattr(logs, "RETRY_AT_END_S", 0.02)


@pytest.fixture
def ship_every_s() -> float:
    """As good as at once."""
    return SHIP_EVERY_S


def stream_of(*paths: Path) -> Stream:
    """The stream of a rank, from these files."""
    return Stream(files=lambda: [LocalFile(path) for path in paths], key=lambda n: layout.log_key("digits", 1, RANK, n))


def finish(shipper: LogShipper) -> None:
    shipper.finish()
    wait_until(lambda: shipper.done, "all is shipped", 20)


@pytest.fixture
def shaky(store: MemoryStore) -> InterposedStore:
    return InterposedStore(store)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdout.log"


@pytest.fixture
def shipper(shaky: InterposedStore, log: Path, ship_every_s: float) -> Iterator[LogShipper]:
    shipper = LogShipper(shaky, [stream_of(log)], Threads(), ship_every_s)
    yield shipper
    shaky.around = undisturbed
    finish(shipper)


def shipped(store: Store) -> bytes:
    """The stream, put together again."""
    keys = [entry.key for entry in store.list(layout.logs_prefix("digits", 1, RANK))]
    bodies = [store.get(key) for key in keys]
    return b"".join(found.body for found in bodies if found is not None)


def append(log: Path, data: bytes) -> None:
    with open(log, "ab") as file:
        file.write(data)


@pytest.mark.parametrize("ship_every_s", [QUICK.ship_logs_s])
def test_at_most_two_seconds_of_a_tail_are_lost_if_all_dies_at_once(
    shipper: LogShipper, log: Path, store: MemoryStore
) -> None:
    """With the real pace: what was written two seconds ago is in the bucket."""
    took_s: list[float] = []
    while not took_s or (took_s[-1] >= 3 and len(took_s) < 4):  # a busy machine may be late, but not each time
        append(log, b"a line\n")
        began = time.monotonic()
        wait_until(lambda: shipped(store) == b"a line\n" * (len(took_s) + 1), "it is there")
        took_s.append(time.monotonic() - began)
    assert took_s[-1] < 3, "two seconds, and one for a busy machine"


def test_whole_lines_are_shipped_and_the_last_one_at_the_end(
    shipper: LogShipper, log: Path, store: MemoryStore
) -> None:
    append(log, b"one\ntw")
    wait_until(lambda: shipped(store) == b"one\n", "the whole line is there", 10)
    append(log, b"o\nthree")
    wait_until(lambda: shipped(store) == b"one\ntwo\n", "the next line is there", 10)
    finish(shipper)
    assert shipped(store) == b"one\ntwo\nthree"


def test_what_is_long_goes_in_pieces(shipper: LogShipper, log: Path, store: MemoryStore) -> None:
    content = b"".join(b"line %d\n" % number for number in range(300_000))
    append(log, content)
    append(log, b"x" * (2 * CHUNK_BYTES))  # a line without an end
    finish(shipper)
    assert shipped(store) == content + b"x" * (2 * CHUNK_BYTES)
    assert max(entry.size for entry in store.list(layout.logs_prefix("digits"))) <= CHUNK_BYTES


@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_reply_neither_doubles_nor_drops_a_line(
    shipper: LogShipper, log: Path, shaky: InterposedStore, store: MemoryStore, applied: bool
) -> None:
    shaky.around = lost = LostReplies(".log", applied=applied, times=3)
    for number in range(30):
        append(log, b"line %d\n" % number)
        if number % 10 == 0:
            left = 2 - number // 10
            wait_until(lambda left=left: lost.times <= left, "a reply was lost")  # type: ignore[misc]
    finish(shipper)
    assert lost.times == 0
    assert shipped(store) == b"".join(b"line %d\n" % number for number in range(30))


def test_what_could_not_be_shipped_is_shipped_when_the_store_is_back(
    shipper: LogShipper, log: Path, shaky: InterposedStore, store: MemoryStore
) -> None:
    shaky.around = away = Away()
    append(log, b"one\n")
    wait_until(lambda: away.asked > 2, "it has tried", 10)
    append(log, b"two\n")
    away.away = False
    wait_until(lambda: shipped(store) == b"one\ntwo\n", "both are there", 10)


def test_at_the_end_it_tries_until_its_time_is_up(
    shipper: LogShipper, log: Path, shaky: InterposedStore, store: MemoryStore
) -> None:
    shaky.around = away = Away()
    append(log, b"the last word")
    threading.Timer(0.2, lambda: setattr(away, "away", False)).start()
    finish(shipper)
    assert shipped(store) == b"the last word"


@dataclass(frozen=True)
class SometimesUnreadable(LocalFile):
    """A log that cannot be opened at times, as when there are too many open files."""

    moods: list[bool] = field(default_factory=list, hash=False, compare=False)

    def read(self, offset: int, limit_bytes: int) -> bytes:
        if self.moods and self.moods.pop():
            raise OSError(errno.EMFILE, "Too many open files")
        return super().read(offset, limit_bytes)


def test_a_log_that_cannot_be_read_now_is_read_later_and_the_others_meanwhile(
    store: MemoryStore, tmp_path: Path
) -> None:
    paths = [tmp_path / "0.log", tmp_path / "1.log"]
    moods = [True] * 5
    sick = Stream(
        files=lambda: [SometimesUnreadable(paths[0], moods)],
        key=lambda n: layout.log_key("digits", 1, layout.rank_stream(1), n),
    )
    for path in paths:
        append(path, b"a line\n")
    shipper = LogShipper(store, [sick, stream_of(paths[1])], Threads(), SHIP_EVERY_S)
    wait_until(lambda: shipped(store) == b"a line\n", "the other one is there", 10)
    append(paths[0], b"the end")
    wait_until(lambda: not moods, "it was tried again", 10)
    moods.append(True)
    finish(shipper)
    assert not shipper.crashed
    found = [store.get(entry.key) for entry in store.list(layout.logs_prefix("digits", 1, layout.rank_stream(1)))]
    assert b"".join(each.body for each in found if each) == b"a line\nthe end"


def test_a_store_that_stays_away_costs_the_tail_and_not_the_agent(
    shipper: LogShipper, log: Path, shaky: InterposedStore, store: MemoryStore
) -> None:
    shaky.around = away = Away()
    append(log, b"the last word")
    shipper.finish()
    wait_until(lambda: away.asked > 1, "it tries until it is told to give up", 10)
    assert not shipper.done
    shipper.give_up()
    wait_until(lambda: shipper.done, "it has given up", 10)


def test_two_streams_do_not_wait_for_each_other(shaky: InterposedStore, store: MemoryStore, tmp_path: Path) -> None:
    """One cannot be stored at all; the other is whole."""
    paths = [tmp_path / "0.log", tmp_path / "1.log"]
    for path in paths:
        append(path, b"a line\n")
    impossible = Stream(files=lambda: [LocalFile(paths[0])], key=lambda n: f"no key {n}")
    shipper = LogShipper(shaky, [impossible, stream_of(paths[1])], Threads(), SHIP_EVERY_S)
    shipper.finish()
    wait_until(lambda: shipped(store) == b"a line\n", "the other one is there", 10)
    shipper.give_up()
    wait_until(lambda: shipper.done, "it has given up", 10)


def test_of_standard_output_and_error_one_stream_is_made(shaky: InterposedStore, store: MemoryStore, tmp_path: Path) -> None:  # fmt: skip # noqa: E501
    out, error = tmp_path / "stdout.log", tmp_path / "stderr.log"
    shipper = LogShipper(shaky, [stream_of(error, out)], Threads(), SHIP_EVERY_S)
    append(out, b"a word\n")
    append(error, b"a warning\n")
    finish(shipper)
    assert sorted(shipped(store).splitlines()) == [b"a warning", b"a word"]


def test_a_file_that_is_not_there_yet_is_waited_for(shipper: LogShipper, log: Path, store: MemoryStore) -> None:
    assert not log.exists()
    append(log, b"late\n")
    wait_until(lambda: shipped(store) == b"late\n", "it is there", 10)


def test_chunks_of_an_agent_that_was_here_before_stay_as_they_are(store: MemoryStore, log: Path) -> None:
    store.create(layout.log_key("digits", 1, RANK, 0), b"from before\n")
    append(log, b"a line\n")
    shipper = LogShipper(store, [stream_of(log)], Threads(), SHIP_EVERY_S)
    finish(shipper)
    assert shipped(store) == b"from before\na line\n"
