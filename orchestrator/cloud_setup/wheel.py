"""A wheel of this very elastic, for the instances: made from its own files, with no network and no build tool.

The same code gives the same bytes, and so the same SHA-256 and the same key in the store. What was installed from a
wheel is packed again as that wheel was; in a source tree the packages are taken as they are now, changed files too, for
a controller and its agents must speak of the same things.
"""

import csv
import hashlib
import io
import json
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from orchestrator.cloud_setup.template import FILE, template_path
from orchestrator.errors import ElasticError

PACKAGES: Final = ("orchestrator", "trainer")
_TEMPLATE: Final = f"orchestrator/cloud_setup/{FILE}"
_NOT_PACKED: Final = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
"""Of the dist-info directory: what an installer has written."""
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)
_A_FILE: Final = 0o100644 << 16
_TAG: Final = "py3-none-any"


@dataclass(frozen=True)
class Wheel:
    """A wheel as bytes, with the name that pip needs it to have."""

    name: str
    body: bytes

    @property
    def sha256(self) -> str:
        """What it is called after in the store."""
        return hashlib.sha256(self.body).hexdigest()


def build_wheel(name: str = "elastic") -> Wheel:
    """Pack the installed distribution of this name. Raises ElasticError where nothing is installed."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise ElasticError(
            f"This {name} runs from files that nobody installed, so there is nothing to send to instances: install it "
            "with pip or uv, also from a source tree (pip install -e .)."
        ) from None
    stem = f"{found.metadata['Name'].replace('-', '_')}-{found.version}"
    return Wheel(f"{stem}-{_TAG}.whl", _zipped(dict(_contents(found, f"{stem}.dist-info")), f"{stem}.dist-info"))


def _contents(found: Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    """All files but RECORD, by their names in the wheel."""
    for file in found.files or []:
        if file.parts[0] == info and file.name not in _NOT_PACKED:
            yield "/".join(file.parts), Path(str(found.locate_file(file))).read_bytes()
    tree = _source_tree(found)
    if tree is None:
        for file in found.files or []:
            if file.parts[0] in PACKAGES and "__pycache__" not in file.parts:
                yield "/".join(file.parts), Path(str(found.locate_file(file))).read_bytes()
        return
    for package in PACKAGES:
        for path in (tree / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(tree).as_posix(), path.read_bytes()
    yield _TEMPLATE, template_path().read_bytes()


def _source_tree(found: Distribution) -> Path | None:
    """Where the packages are when they are used from a source tree; None: they were installed."""
    said = found.read_text("direct_url.json")
    if said is None or not json.loads(said).get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(json.loads(said)["url"]).path))


def _zipped(files: Mapping[str, bytes], info: str) -> bytes:
    """A zip with RECORD at its end; the order and the times are always the same."""
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for name in sorted(files):
        digest = urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        rows.writerow((name, f"sha256={digest}", len(files[name])))
    rows.writerow((f"{info}/RECORD", "", ""))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in [*sorted(files.items()), (f"{info}/RECORD", record.getvalue().encode())]:
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.external_attr = _A_FILE
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, body)
    return packed.getvalue()
