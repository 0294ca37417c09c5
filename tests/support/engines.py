"""What a test may need beyond Python: each engine by name, with a way to tell whether it is here."""

import os
import shutil
from collections.abc import Callable

import pytest

from orchestrator.rehearsal.serving import executable
from tests.support import docker_engine

ALL_ENGINES_VARIABLE = "ELASTIC_TEST_ALL"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSERS_DRIVER = "chromedriver"


def _command(*names: str) -> Callable[[], str | None]:
    def look() -> str | None:
        found = any(executable(name) for name in names)
        return None if found else f"there is no {' or '.join(names)} command"

    return look


def _tmpfs() -> str | None:
    return None if os.geteuid() == 0 and shutil.which("mount") else "mounting a small file system takes root"


def _chromium() -> str | None:
    return _command(*BROWSERS)() or _command(BROWSERS_DRIVER)()


# Each gives None when the engine is here, else why it is not.
ENGINES: dict[str, Callable[[], str | None]] = {
    "docker": docker_engine.missing,
    "compose": docker_engine.compose_missing,
    "chromium": _chromium,
    "seaweedfs": _command("weed"),
    "ministack": _command("ministack"),
    "rclone": _command("rclone"),
    "tmpfs": _tmpfs,
    "systemd-analyze": _command("systemd-analyze"),
    "gcc": _command("gcc", "cc"),
    "g++": _command("g++", "c++", "clang++"),
}


def require(engine: str) -> None:
    """Skip the running test when its engine is missing; fail it when every engine was promised to be here."""
    reason = ENGINES[engine]()
    if reason is None:
        return
    if os.environ.get(ALL_ENGINES_VARIABLE) == "1":
        pytest.fail(f"{engine} is missing ({reason}) though {ALL_ENGINES_VARIABLE}=1", pytrace=False)
    pytest.skip(f"needs {engine}: {reason}")
