"""The import contracts can fail: on a repository that breaks each of them, each is reported broken."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the code and its configuration, to be spoilt."""
    for package in ("orchestrator", "trainer"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(repository: Path) -> subprocess.CompletedProcess[str]:
    command = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-P", "-c", command, "--no-cache"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_contracts_are_kept(repository: Path) -> None:
    answer = lint_imports(repository)

    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("orchestrator/store/protocol.py", "import orchestrator.jobs.head"),
        ("orchestrator/jobs/head.py", "import orchestrator.cli.main"),
        ("orchestrator/fleets/protocol.py", "import orchestrator.agent"),
        ("trainer/config.py", "import orchestrator.errors"),
        ("trainer/config.py", "def late() -> None:\n    import boto3"),
        ("orchestrator/jobs/head.py", "import trainer.model"),
        ("orchestrator/spec/models.py", "import torch"),
        ("orchestrator/jobs/head.py", "import boto3"),
        ("orchestrator/spec/load.py", "from time import monotonic"),
        ("orchestrator/jobs/head.py", "import random"),
    ],
)
def test_a_broken_contract_is_noticed(repository: Path, module: str, statement: str) -> None:
    with (repository / module).open("a") as file:
        file.write(f"\n\n{statement}\n")

    answer = lint_imports(repository)

    assert answer.returncode == 1
    assert "BROKEN" in answer.stdout
