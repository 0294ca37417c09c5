"""A long look at images is told while it lasts."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from tests.trainer.launch import wait_until
from trainer.activity import told
from trainer.world import World


def now() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def lines(path: Path) -> list[str]:
    return [json.loads(line)["activity"] for line in path.read_text().splitlines()] if path.exists() else []


def test_it_is_told_again_and_again_by_the_leading_rank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("trainer.activity.TELL_EVERY_S", 0.02)
    progress = tmp_path / "progress.jsonl"
    with told("looking", tmp_path, World(0, 2, torch.device("cpu")), now):
        wait_until(lambda: len(lines(progress)) >= 3, "three lines")
    said = lines(progress)
    assert len(set(said)) == len(said)
    assert all(line.startswith("looking, for ") for line in said)
    time.sleep(0.1)  # five times as long as between two lines
    assert lines(progress) == said


def test_another_rank_and_a_quick_start_say_nothing(tmp_path: Path) -> None:
    for rank in (0, 1):
        with told("looking", tmp_path, World(rank, 2, torch.device("cpu")), now):
            pass
    assert not (tmp_path / "progress.jsonl").exists()
