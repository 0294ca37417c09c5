"""The command as a person runs it: in this process where that is enough, in one of its own where it is not."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from orchestrator.store.open import open_store
from orchestrator.store.protocol import Store


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Elastic = Callable[..., Outcome]


@pytest.fixture
def store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of the test's own, which every command here uses unless told otherwise."""
    url = (tmp_path / "store").as_uri()
    monkeypatch.setenv("ELASTIC_STORE", url)
    return url


@pytest.fixture
def store(store_url: str) -> Store:
    """The same store, to put jobs into."""
    return open_store(store_url, {})


@pytest.fixture
def elastic(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Elastic:
    """`elastic ARGUMENTS` in this process, without a terminal."""

    def command(*arguments: str, stdin: str = "") -> Outcome:
        out, err = io.BytesIO(), io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8", write_through=True))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding="utf-8", write_through=True))
            code = run(arguments)
            return Outcome(code, out.getvalue().decode(), err.getvalue().decode())

    return command


ElasticProcess = Callable[..., "subprocess.CompletedProcess[str]"]


def command_line(*arguments: str) -> list[str]:
    """`elastic ARGUMENTS` for a process of its own."""
    return [sys.executable, "-m", "orchestrator.cli.main", *arguments]


@pytest.fixture
def elastic_process(store_url: str, tmp_path: Path) -> ElasticProcess:
    """`elastic ARGUMENTS` as a real process, without a terminal, in the test's directory."""

    def command(*arguments: str, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command_line(*arguments),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.getcwd(), **(env or {})},
        )

    return command
