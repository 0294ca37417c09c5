"""What the engine's answers mean to whoever asks it: that it is away, in trouble, or says no. A made-up engine."""

from typing import Any

import pytest
from docker.errors import APIError
from requests import Response

from orchestrator.agent.containers import asking
from orchestrator.agent.containers.asking import Engine, EngineAway, EngineRefused
from orchestrator.fleets.engine import EngineError


def error(status: int, said: str) -> APIError:
    response = Response()
    response.status_code = status
    return APIError("said", response=response, explanation=said)


@pytest.fixture
def missed() -> list[EngineError]:
    return []


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, missed: list[EngineError]) -> Engine:
    """Each look at its clock is a second later."""
    monkeypatch.setattr(asking, "connect", lambda _: object())
    ticks = iter(range(1000))
    return Engine({}, lambda: float(next(ticks)), missed.append, lambda: False, first_answer_s=5.0, away_s=5.0)


def asked(engine: Engine, *answers: Any) -> Any:
    """What is answered in the end; the last answer is given for ever."""
    left = list(answers)

    def what(_: object) -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    pieces = engine.ask(what)
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


def test_a_server_error_is_waited_out_like_an_absence(engine: Engine, missed: list[EngineError]) -> None:
    assert asked(engine, error(500, "the database is locked"), error(503, "busy"), "well") == "well"
    assert ["the database is locked" in str(each) for each in missed] == [True, False]
    assert engine.was_away() and engine.away_since is None


def test_one_that_stays_in_trouble_is_lost_and_no_fault_of_the_ranks(engine: Engine) -> None:
    assert asked(engine, "well") == "well"
    with pytest.raises(EngineAway) as away:
        asked(engine, error(500, "the database is locked"))
    assert away.value.has_answered


def test_a_refusal_is_told_in_the_engines_words_and_not_asked_for_again(engine: Engine) -> None:
    with pytest.raises(EngineRefused, match=r"refuses what was asked of it: .*invalid filter"):
        asked(engine, error(400, "invalid filter"), "never reached")
    assert not engine.was_away()


def test_a_full_disk_of_whoever_asks_is_not_the_engines_absence(engine: Engine, missed: list[EngineError]) -> None:
    with pytest.raises(OSError, match="No space left"):
        asked(engine, OSError(28, "No space left on device"))
    assert not missed
