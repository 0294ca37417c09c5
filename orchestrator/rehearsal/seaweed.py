"""S3 on loopback, by SeaweedFS: it keeps conditions exactly, which the bucket of jobs must."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.rehearsal.missing import require_command
from orchestrator.rehearsal.serving import serving

EVERYTHING = ("Admin", "Read", "Write", "List", "Tagging")


@dataclass(frozen=True)
class Identity:
    """Who may do what, in SeaweedFS's words."""

    name: str
    access_key: str
    secret_key: str
    actions: tuple[str, ...] = EVERYTHING


@contextmanager
def running_seaweed(identities: Sequence[Identity]) -> Iterator[str]:
    """Start SeaweedFS in one process, give its URL, and end it. Raises MissingParts, ServerDown."""
    weed = require_command("weed")

    def command(directory: Path, ports: Sequence[int]) -> Sequence[str]:
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = ports
        config, data = directory / "s3.json", directory / "data"
        config.write_text(json.dumps({"identities": [_entry(identity) for identity in identities]}))
        data.mkdir()
        return [
            *(weed, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-master.port={master}", f"-master.port.grpc={master_grpc}"),
            *(f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}"),
            *("-volume.max=400", "-master.volumeSizeLimitMB=64", "-filer"),
            *(f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}", "-s3", f"-s3.port={s3}"),
            *(f"-s3.port.grpc={s3_grpc}", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}"),
        ]

    with serving(command, ports=8, health="/healthz", environ=os.environ) as url:
        yield url


def _entry(identity: Identity) -> dict[str, object]:
    keys = {"accessKey": identity.access_key, "secretKey": identity.secret_key}
    return {"name": identity.name, "credentials": [keys], "actions": list(identity.actions)}
