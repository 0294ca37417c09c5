"""Large files to and from S3: elastic's own parts against boto3's transfer manager, in turn, on the same server.

    uv run python -m benchmarks.store_transfers                       a SeaweedFS of its own, on loopback
    uv run python -m benchmarks.store_transfers --store s3://BUCKET/PREFIX

Ours give the SHA-256 of the whole file and can go on after an interruption; boto3's do neither, and so the time for a
SHA-256 of the file is also shown. On loopback, client and server share the processors. A server
still writes to its disk after an upload, and a system frees the memory of a file that is replaced, at the cost of
whoever comes next: hence uploads and downloads are apart, and ours and boto3's take turns in being first.
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

Pair = tuple[Callable[[], object], Callable[[], object]]
"""The same with elastic and with boto3."""


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
    """Print the times of each kind, and ours as a share of boto3's."""
    source, target = directory / "source", directory / "target"
    source.write_bytes(secrets.token_bytes(1024**2) * size_mib)
    store = open_store(url, os.environ)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client, config = boto3.client("s3"), TransferConfig(preferred_transfer_client="classic")
    keys: list[str] = []

    def fresh() -> str:
        keys.append(f"transfers/{secrets.token_hex(6)}")
        return keys[-1]

    up: Pair = (
        lambda: store.upload(source, fresh()),
        lambda: client.upload_file(str(source), bucket, f"{prefix}/{fresh()}", Config=config),
    )
    down: Pair = (
        lambda: store.download(keys[0], target),
        lambda: client.download_file(bucket, f"{prefix}/{keys[0]}", str(target), Config=config),
    )
    print(f"{size_mib} MiB, {rounds} rounds, boto3 {boto3.__version__}, {os.cpu_count()} cores, {url}")
    try:
        sums_s = [timed(lambda: digest(source)) for _ in range(rounds)]
        for way, pair in (("up", up), ("down", down)):
            compare(way, size_mib, in_turn(pair, rounds), median(sums_s))
    finally:
        for key in keys:
            store.delete(key)


def in_turn(pair: Pair, rounds: int) -> list[tuple[float, float]]:
    """The seconds of both, each round; one before makes connections, and room on the server, and is not counted."""
    times_s = []
    for number in range(rounds + 1):
        first, second = pair[:: 1 if number % 2 else -1]
        first_s, second_s = timed(first), timed(second)
        times_s.append((first_s, second_s) if number % 2 else (second_s, first_s))
    return times_s[1:]


def compare(way: str, size_mib: int, times_s: list[tuple[float, float]], sum_s: float) -> None:
    """Print the median times, and the median of what ours take of boto3's in the same round."""
    for whose, times in zip(("ours", "boto3"), zip(*times_s, strict=True), strict=True):
        seconds = median(times)
        spread = f"({min(times):.3f} to {max(times):.3f})"
        print(f"{way:4} {whose:6} {seconds:7.3f} s {size_mib / seconds:7.0f} MiB/s  {spread}")
    plain, checked = (median(ours / (others + more) for ours, others in times_s) for more in (0.0, sum_s))
    print(f"{way}: ours takes {plain:.2f} of boto3's time, {checked:.2f} of it with the SHA-256 ({sum_s:.3f} s)")


def timed(do: Callable[[], object]) -> float:
    """The seconds that it takes."""
    started_s = time.perf_counter()
    do()
    return time.perf_counter() - started_s


def digest(path: Path) -> str:
    """What boto3's user would have to add."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
