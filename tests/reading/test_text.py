"""Values as words."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.reading import text

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (8.4, "8s"),
        (59.6, "1m 00s"),
        (72, "1m 12s"),
        (3_600, "1h 00m"),
        (11_100, "3h 05m"),
        (187_200, "2d 4h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (59, "59s"), (61, "1m"), (3_700, "1h"), (90_000, "1d"), (-5, "0s")]
)
def test_an_age_has_its_largest_unit(seconds: float, words: str) -> None:
    assert text.age(NOW - timedelta(seconds=seconds), NOW) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.412, "0.412"), (12.34, "12.3"), (1_240.4, "1,240"), (0, "0.000"), (0.00012, "1.2e-04")]
)
def test_a_number_has_few_digits(value: float, words: str) -> None:
    assert text.number(value) == words


@pytest.mark.parametrize(("amount", "words"), [(0, "$0.00"), (1.234, "$1.23"), (0.0012, "$0.0012")])
def test_small_amounts_can_be_seen(amount: float, words: str) -> None:
    assert text.usd(amount) == words


def test_a_time_of_another_day_has_its_date() -> None:
    assert len(text.local_time(NOW, NOW)) == len("12:00:00")
    assert text.local_time(NOW - timedelta(days=2), NOW).startswith("2026-04-")


def test_what_is_not_there_yet_is_a_dash() -> None:
    missing = {text.share(None), text.percent(None), text.duration(None), text.number(None), text.age(None, NOW)}
    assert missing == {text.NOTHING}


def test_nouns_agree_with_their_number() -> None:
    assert [text.count(n, "worker") for n in (0, 1, 2_000)] == ["0 workers", "1 worker", "2,000 workers"]


def test_waiting_for_images_is_worth_a_word_when_it_is_much() -> None:
    assert [text.starved(share) for share in (None, 0.1, 0.34)] == ["", "", "waits for images 34 % of the time"]
