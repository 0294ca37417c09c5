"""The wheel that instances install: made of this elastic's own files, complete, and always the same."""

import base64
import csv
import ensurepip
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from orchestrator.cloud_setup import wheel as wheels
from orchestrator.cloud_setup.template import FILE
from orchestrator.cloud_setup.wheel import Wheel, build_wheel
from orchestrator.errors import ElasticError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel() -> Wheel:
    return build_wheel()


def contents(body: bytes) -> Mapping[str, bytes]:
    archive = zipfile.ZipFile(io.BytesIO(body))
    return {name: archive.read(name) for name in archive.namelist()}


def without_info(names: Mapping[str, bytes]) -> set[str]:
    return {name for name in names if ".dist-info/" not in name and not name.endswith(".pyc")}


def test_it_is_the_same_again(wheel: Wheel) -> None:
    assert build_wheel() == wheel


def test_it_records_every_file_with_its_sha256(wheel: Wheel) -> None:
    files = dict(contents(wheel.body))
    (record,) = [name for name in files if name.endswith(".dist-info/RECORD")]
    rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(files.pop(record).decode()))}
    assert rows.pop(record) == ("", "")
    for name, body in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        assert rows.pop(name) == (f"sha256={digest}", str(len(body)))
    assert rows == {}


def test_it_has_what_the_build_tool_would_put_in(wheel: Wheel, tmp_path: Path) -> None:
    """Hatchling in a copy of the tree, so that nothing of it is left in this one."""
    copied = ["orchestrator", "trainer", "deploy", "pyproject.toml", "README.md", "LICENSE"]
    for name in copied:
        (tmp_path / name).symlink_to(REPOSITORY / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    (built,) = (tmp_path / "dist").glob("*.whl")
    assert built.name == wheel.name
    assert without_info(contents(built.read_bytes())) == without_info(contents(wheel.body))
    assert f"orchestrator/cloud_setup/{FILE}" in contents(wheel.body)


@pytest.fixture(scope="module")
def installed(wheel: Wheel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel as pip installs it: by the pip that Python brings along, with no network."""
    directory = tmp_path_factory.mktemp("installed")
    file = directory / wheel.name
    file.write_bytes(wheel.body)
    (pip,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(directory / "there")]
    command = [sys.executable, str(pip / "pip"), "install", *options, str(file)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    return directory / "there"


def test_pip_takes_it_and_the_command_is_there(installed: Path) -> None:
    assert (installed / "bin" / "elastic").is_file()
    assert (installed / "orchestrator" / "cloud_setup" / FILE).is_file()


def test_where_it_was_installed_the_very_same_wheel_is_made(
    wheel: Wheel, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (info,) = installed.glob("elastic-*.dist-info")
    monkeypatch.setattr(wheels, "distribution", lambda _name: PathDistribution(info))
    again = build_wheel()
    assert set(contents(again.body)) == set(contents(wheel.body))
    assert again == wheel


def test_in_a_source_tree_it_has_what_was_changed_since_it_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, tree = tmp_path / "elastic-1.2.3.dist-info", tmp_path / "a tree"
    for package in wheels.PACKAGES:
        (tree / package).mkdir(parents=True)
        (tree / package / "__init__.py").write_text("changed = True\n")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: elastic\nVersion: 1.2.3\n")
    (info / "RECORD").write_text("elastic-1.2.3.dist-info/METADATA,,\nelastic-1.2.3.dist-info/RECORD,,\n")
    (info / "direct_url.json").write_text(json.dumps({"url": tree.as_uri(), "dir_info": {"editable": True}}))
    monkeypatch.setattr(wheels, "distribution", lambda _name: PathDistribution(info))
    made = build_wheel()
    assert made.name == "elastic-1.2.3-py3-none-any.whl"
    assert contents(made.body)["trainer/__init__.py"] == b"changed = True\n"


def test_where_nothing_is_installed_it_says_so() -> None:
    with pytest.raises(ElasticError, match="install it with pip or uv"):
        build_wheel("not-installed-anywhere")
