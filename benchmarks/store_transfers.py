"""Large files to and from S3: elastic's own parts against boto3's transfer manager, in turn, on the same server.

    uv run python -m benchmarks.store_transfers                       a SeaweedFS of its own, on loopback
    uv run python -m benchmarks.store_transfers --store s3://BUCKET/PREFIX

Ours give the SHA-256 of the whole file and can go on after an interruption; boto3's do neither, and so the time for a
SHA-256 of the file is also shown. On loopback, client and server share the processors.
"""

import argparse
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import file_digest
from pathlib import Path
from statistics import median

import boto3
import pytest
from boto3.s3.transfer import TransferConfig

from orchestrator.store import open_store
from tests.support.moto_server import make_bucket
from tests.support.s3_servers import running_seaweed, use_server


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", help="an S3 store that may be written to; without: a SeaweedFS is started")
    parser.add_argument("--size-mib", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elastic-transfers-")))
        url = options.store
        if url is None:
            use_server(stack.enter_context(running_seaweed()), stack.enter_context(pytest.MonkeyPatch.context()))
            make_bucket("transfers")
            url = "s3://transfers/benchmark"
        measure(url, directory, options.size_mib, options.rounds)


def measure(url: str, directory: Path, size_mib: int, rounds: int) -> None:
    """Print the median times of each kind, and ours as a share of boto3's."""
    source, target = directory / "source", directory / "target"
    source.write_bytes(secrets.token_bytes(1024**2) * size_mib)
    store = open_store(url, os.environ)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client, config = boto3.client("s3"), TransferConfig(preferred_transfer_client="classic")
    keys: list[str] = []

    def fresh() -> str:
        keys.append(f"transfers/{secrets.token_hex(6)}")
        return keys[-1]

    kinds: dict[str, Callable[[], object]] = {
        "up, ours": lambda: store.upload(source, fresh()),
        "up, boto3": lambda: client.upload_file(str(source), bucket, f"{prefix}/{fresh()}", Config=config),
        "down, ours": lambda: store.download(keys[0], target),
        "down, boto3": lambda: client.download_file(bucket, f"{prefix}/{keys[0]}", str(target), Config=config),
        "SHA-256": lambda: digest(source),
    }
    times_s: dict[str, list[float]] = {kind: [] for kind in kinds}
    try:
        for number in range(rounds + 1):
            for kind, transfer in kinds.items():
                started_s = time.perf_counter()
                transfer()
                if number:  # the first round makes connections, and room on the server
                    times_s[kind].append(time.perf_counter() - started_s)
    finally:
        for key in keys:
            store.delete(key)
    print(f"{size_mib} MiB, {rounds} rounds, boto3 {boto3.__version__}, {os.cpu_count()} cores, {url}")
    for kind, times in times_s.items():
        seconds = median(times)
        print(f"{kind:12} {seconds:7.3f} s {size_mib / seconds:7.0f} MiB/s  ({min(times):.3f} to {max(times):.3f})")
    for way in ("up", "down"):
        ours, others = (median(times_s[f"{way}, {whose}"]) for whose in ("ours", "boto3"))
        checked = others + median(times_s["SHA-256"])
        print(f"{way}: ours takes {ours / others:.2f} of boto3's time, {ours / checked:.2f} of it with the SHA-256")


def digest(path: Path) -> str:
    """What boto3's user would have to add."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
