"""Durations and sizes: what a person may write, and that nothing is lost when they are written back."""

import random

import pytest

from orchestrator.spec.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("2m", 120.0),
        ("1.5h", 5400.0),
        ("1d", 86_400.0),
        ("500ms", 0.5),
        ("1h30m", 5400.0),
        ("1d2h3m4s5ms", 93_784.005),
        ("0s", 0.0),
        ("90s", 90.0),
        ("0.1s", 0.1),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("60", "the unit is missing: write 60s"),
        ("1.5", "the unit is missing: write 1.5s"),
        ("60 s", "write 60s"),
        ("60S", "write 60s"),
        ("2min", "write 2m"),
        ("2 minutes", "write 2m"),
        ("1hr", "write 1h"),
        ("-5", "must be a duration"),
        ("-5s", "must be a duration"),
        ("1:30", "must be a duration"),
        ("30m1h", "must be a duration"),
        ("soon", "must be a duration"),
        ("", "must be a duration"),
        ("1e3s", "must be a duration"),
        ("30s\n", "write 30s"),
        ("4GiB", "must be a duration"),
        ("99999d", "must be at most 3650d"),
    ],
)
def test_what_is_no_duration_is_told_how_to_write_one(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=f"^{advice}"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (60, "1m"), (90, "1m30s"), (5400, "1h30m"), (0.5, "500ms"), (1e-7, "0.0000001s"), (86_400, "1d")],
)
def test_a_duration_is_written_with_its_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_duration_survives_being_written_and_read() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        seconds = round(draw.uniform(0, 10 ** draw.randint(-3, 7)), draw.randint(0, 9))
        assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4GiB", 4 * 2**30),
        ("512MiB", 512 * 2**20),
        ("10GB", 10**10),
        ("1.5KiB", 1536),
        ("7B", 7),
        ("1kB", 1000),
        ("1KB", 1000),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("4096", "the unit is missing: write 4096MiB"),
        ("4gb", "write 4GB"),
        ("4 GiB", "write 4GiB"),
        ("4Gi", "write 4GiB"),
        ("4G", "write 4GiB"),
        ("much", "must be a size"),
        ("-1GB", "must be a size"),
        ("4s", "must be a size"),
    ],
)
def test_what_is_no_size_is_told_how_to_write_one(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=f"^{advice}"):
        parse_size(text)


def test_a_size_survives_being_written_and_read() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        size_bytes = draw.choice([draw.randint(0, 2**50), 2 ** draw.randint(0, 50), 10 ** draw.randint(0, 15)])
        assert parse_size(format_size(size_bytes)) == size_bytes
    assert format_size(256 * 2**20) == "256MiB"
