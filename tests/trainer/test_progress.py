"""progress.jsonl is one JSON object a line, whatever happened to its last writer or its disk."""

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.trainer.launch import TINY, start
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


def test_a_log_on_a_full_disk_costs_lines_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ProgressLog(tmp_path / "progress.jsonl", now)
    full = open("/dev/full", "w")  # noqa: SIM115 - closing it fails as well
    monkeypatch.setattr("sys.stderr", full)
    log.note(3, "told")
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space"):
        full.close()
    assert '"note": "told"' in (tmp_path / "progress.jsonl").read_text()


def test_a_run_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"progress\.jsonl: cannot be written"):
        ProgressLog(tmp_path / "file" / "progress.jsonl", now)


def _rank(rank: int, local_rank: int, meeting_place: Path) -> dict[str, str]:
    """One of four ranks on two machines, none of them sharing a directory."""
    numbers = {"RANK": rank, "LOCAL_RANK": local_rank, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}
    return {
        "ELASTIC_RUN_DIR_PER_MACHINE": "1",
        "ELASTIC_RENDEZVOUS": f"file://{meeting_place}",
        "GLOO_SOCKET_IFNAME": "lo",
        **{name: str(number) for name, number in numbers.items()},
    }


def test_on_each_machine_one_rank_says_how_far_it_is_and_one_of_all_what_it_costs(tmp_path: Path) -> None:
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(start(tmp_path / name, environ=_rank(rank, rank % 2, tmp_path / "meeting")))
            for rank, name in enumerate(["first", "first-1", "other", "other-1"])
        ]
        for rank in ranks:
            rank.finish()
    first, other = ranks[0], ranks[2]
    assert ranks[1].lines() == ranks[3].lines() == []
    assert {"loss", "student_accuracy", "learning_rate"} <= first.reports()[-1].keys()
    told = other.reports()
    assert [line["step"] for line in (told[0], told[-1])] == [1, TINY["steps"]]
    assert (told[-1]["samples"], told[-1]["world_size"]) == (TINY["batch"] * TINY["steps"], 4)
    assert 0.0 <= told[-1]["data_wait"] <= 1.0
    assert told[-1]["memory_bytes"] > 0
    assert "loss" not in told[-1]
    assert other.checkpoints() == []
    assert len(first.checkpoints()) > 0
