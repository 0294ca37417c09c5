"""What a rank prints is followed: each line once and whole, whatever the engine does. A made-up engine."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from requests.exceptions import ConnectionError

from orchestrator.agent.containers import following
from orchestrator.agent.containers.following import Follower
from tests.support.waiting import wait_until

AT = [f"2026-11-28T17:00:0{second}.552079149Z ".encode() for second in range(6)]
Answer = Sequence[bytes] | Exception
ASK_AGAIN_S = 0.01


class Printing:
    """An engine that gives what a container printed, answer by answer; after an answer of parts the stream breaks."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.api = self
        self.asked: list[int | None] = []
        self._answers = list(answers)

    def logs(self, _container: str, *, since: int | None, **_: Any) -> Iterator[bytes]:
        self.asked.append(since)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        yield from answer


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Printing, bytes]]:
    monkeypatch.setattr(following, "ASK_AGAIN_AFTER_S", ASK_AGAIN_S)

    def to_the_end(*answers: Answer) -> tuple[Printing, bytes]:
        printing = Printing(answers)
        taken = threading.Semaphore(0)
        follower = Follower(printing, "rank-0", "stdout", tmp_path / "log", taken.release)  # type: ignore[arg-type]
        for _ in answers:
            assert taken.acquire(timeout=60)
        follower.finish()
        wait_until(lambda: follower.done, "all is written")
        return printing, (tmp_path / "log").read_bytes()

    return to_the_end


def test_the_parts_of_a_long_line_have_one_time_and_all_are_written(
    follow: Callable[..., tuple[Printing, bytes]],
) -> None:
    parts = [AT[1] + b"x" * 16384, AT[1] + b"y" * 16384, AT[1] + b"z\n"]
    _, written = follow([*parts, AT[2] + b"next\n"])
    assert written == b"x" * 16384 + b"y" * 16384 + b"z\nnext\n"


def test_asked_again_nothing_is_written_twice_and_nothing_is_lost(
    follow: Callable[..., tuple[Printing, bytes]],
) -> None:
    whole = [AT[0] + b"a\n", AT[1] + b"b", AT[1] + b"c", AT[1] + b"d\n", AT[2] + b"e\n"]
    printing, written = follow(whole[:3], ConnectionError(), whole[1:4], whole)
    assert written == b"a\nbcd\ne\n"
    assert printing.asked[0] is None and printing.asked[1] == 1795885201


def test_the_engines_own_words_are_passed_over(follow: Callable[..., tuple[Printing, bytes]]) -> None:
    _, written = follow([AT[0] + b"a\n", b"Error grabbing logs: unexpected EOF\n"], [AT[0] + b"a\n", AT[1] + b"b\n"])
    assert written == b"a\nb\n"


def test_an_engine_that_stays_away_at_the_end_is_asked_now_and_then_and_given_up(
    follow: Callable[..., tuple[Printing, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "GIVE_UP_AFTER_S", 0.3)
    began_s = time.monotonic()
    printing, written = follow([AT[0] + b"a\n"], ConnectionError())
    assert written == b"a\n"
    assert len(printing.asked) < 20 + (time.monotonic() - began_s) / ASK_AGAIN_S
