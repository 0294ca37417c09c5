"""progress.jsonl is one JSON object a line, whatever happened to its last writer or its disk."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trainer.errors import ConfigError
from trainer.progress import ProgressLog


def now() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_lines_are_there_at_once_with_their_time(tmp_path: Path) -> None:
    log = ProgressLog(tmp_path / "run" / "progress.jsonl", now)
    log.note(3, "something")
    (line,) = (tmp_path / "run" / "progress.jsonl").read_text().splitlines()
    assert json.loads(line) == {"note": "something", "step": 3, "time": "2026-01-02T03:04:05+00:00"}
    log.close()


def test_half_a_line_of_a_killed_writer_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_text('{"step": 1}\n{"st')
    log = ProgressLog(path, now)
    log.note(3, "after")
    log.note(4, "later")
    log.close()
    first, half, after, later = path.read_text().splitlines()
    assert half == '{"st'
    assert [json.loads(line)["step"] for line in (first, after, later)] == [1, 3, 4]


def test_a_full_disk_costs_lines_and_not_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    log = ProgressLog(Path("/dev/full"), now)
    log.note(3, "something")
    log.close()
    assert "progress.jsonl cannot be written: No space left on device" in capsys.readouterr().err


def test_a_run_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"progress\.jsonl: cannot be written"):
        ProgressLog(tmp_path / "file" / "progress.jsonl", now)
