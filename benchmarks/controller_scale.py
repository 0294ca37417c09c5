"""What a controller costs with many jobs: time of a tick, memory, and requests by kind and price.

    python -m benchmarks.controller_scale [--jobs 100,1000,5000,10000] [--finished 10000] [--seaweed]

Real controller, real records; the store is in memory and the agents are made up: each job trains on one instance, whose
heartbeat changes as often as at the thrifty pace (that of a bucket whose requests cost money), with a commit each
minute. Time is virtual: `--ticks` ticks, two seconds apart, after all jobs have come to train. Each count of jobs is
measured in a process of its own. `--finished N` adds a run of 100 jobs beside N that are over; `--seaweed` one of 100
jobs on a SeaweedFS server that is started here.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from statistics import quantiles

import pytest

from orchestrator.controller.controller import Controller
from orchestrator.controller.spread import SideBySide, one_by_one
from orchestrator.fleets.protocol import InstanceState, LaunchRequest, Offer, Sighting
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record, submit_job
from orchestrator.jobs.head import Manifest, commit
from orchestrator.jobs.instances import Heartbeat, TrainerProgress, Utilization
from orchestrator.jobs.pace import THRIFTY
from orchestrator.jobs.phases import JobPhase
from orchestrator.spec.models import JobSpec, Limits, Resources
from orchestrator.store import document
from orchestrator.store.lease import DEFAULT_TTL_S
from orchestrator.store.memory import MemoryStore
from orchestrator.store.open import open_store
from orchestrator.store.protocol import Store
from tests.support.interposed import InterposedStore, Operation
from tests.support.moto_server import make_bucket
from tests.support.s3_servers import BUCKET, new_store_url, running_seaweed, use_server
from trainer.config import TrainingConfig

TRAINING = TrainingConfig(labels=50, steps=1_000_000, batch=32, labelled_batch=16, shards=8)
COMMIT_EVERY_BEATS = 6
USD = {
    "get": 0.4e-6,
    "list": 5e-6,
    "prefixes": 5e-6,
    "create": 5e-6,
    "replace": 5e-6,
    "put": 5e-6,
    "delete": 0.0,
    "abort": 5e-6,
}


class Fleet:
    """Instances that are there at once, at a dollar an hour."""

    lag_s = 0.0

    def __init__(self) -> None:
        self.started: dict[str, LaunchRequest] = {}

    def launch(self, request: LaunchRequest) -> None:
        self.started[request.instance] = request

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        return {name: Sighting(InstanceState.RUNNING) for name in instances if name in self.started}

    def terminate(self, instance: str) -> None:
        self.started.pop(instance, None)

    def offers(self, resources: Resources, instance_type: str) -> Sequence[Offer]:  # noqa: ARG002 - all cost the same
        return (Offer(instance_type, "", "on_demand", 1.0),)


class Measured:
    """A controller with so many jobs."""

    def __init__(self, store: Store, jobs: int, finished: int = 0) -> None:
        self.store, self.jobs = store, [f"job-{n:05d}" for n in range(jobs)]
        self.elapsed_s, self.requests = 0.0, Counter[str]()
        self.fleet, numbers = Fleet(), count()
        self.nonce: Callable[[], str] = lambda: f"{next(numbers):012d}"
        for n in range(finished):
            self._finish(f"done-{n:05d}")
        for job in self.jobs:
            submit_job(store, _spec(job), self.now(), self.nonce)
        self.pool = None if isinstance(store, MemoryStore) else ThreadPoolExecutor(16)
        self.controller = Controller(
            InterposedStore(store, self._count),
            {"local": self.fleet},
            now=self.now,
            monotonic=lambda: self.elapsed_s,
            nonce=self.nonce,
            still_leading=lambda: True,
            log=lambda _line: None,
            pace=THRIFTY,
            spread=SideBySide(self.pool) if self.pool else one_by_one,
        )

    def now(self) -> datetime:
        return datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=self.elapsed_s)

    def _count(self, operation: Operation, _key: str, call: Callable[[], object]) -> object:
        self.requests[operation] += 1
        return call()

    def _finish(self, job: str) -> None:
        stored = submit_job(self.store, _spec(job), self.now(), self.nonce)
        over = stored.value.model_copy(update={"phase": JobPhase.SUCCEEDED})
        document.swap(self.store, layout.record_key(job), stored, over, self.nonce)
        self.store.delete(layout.todo_key(job))

    def tick(self, beat: int | None) -> float:
        """The agents speak (a fifth of them at each tick), then the controller looks; how long that took."""
        for n, job in enumerate(self.jobs):
            if beat is None or (n + beat) % round(THRIFTY.heartbeat_s / THRIFTY.tick_s) == 0:
                self._beat(n, job, beat)
        began_s = time.perf_counter()
        self.controller.tick(1)
        took_s = time.perf_counter() - began_s
        self.elapsed_s += THRIFTY.tick_s
        return took_s

    def _beat(self, n: int, job: str, beat: int | None) -> None:
        instance = f"{job}-g1-n0-a0"
        if instance not in self.fleet.started:
            return
        ready = document_or_none(self.store, instance)
        step = round(self.elapsed_s)
        if beat is not None and (step // 10 + n) % COMMIT_EVERY_BEATS == 0:
            manifest = Manifest(step=step, generation=1, final=False, files=())
            commit(self.store, job, 1, manifest, self.nonce)
        told = Heartbeat(
            instance=instance,
            count=round(self.elapsed_s * 10),
            at=self.now(),
            uptime_s=self.elapsed_s,
            state="running" if ready else "ready",
            job=job,
            epoch=1,
            generation=1 if ready else 0,
            progress=TrainerProgress(step=step, total_steps=1_000_000, samples_per_second=100.0) if ready else None,
            committed_step=step // 60 * 60 if ready else None,
            utilization=Utilization(source="nvml", percents=(60.0,) * 120, count=step) if ready else None,
        )
        self.store.put(layout.heartbeat_key(instance), told.model_dump_json().encode())


def document_or_none(store: Store, instance: str) -> bool:
    """Whether an instance has its assignment."""
    return store.get(layout.assignment_key(instance)) is not None


def _spec(job: str) -> JobSpec:
    return JobSpec(name=job, training=TRAINING, limits=Limits(max_cost=1000.0))


def measure(name: str, store: Store, jobs: int, ticks: int, finished: int = 0) -> None:
    """Bring all jobs to train, then measure, and print a row."""
    measured = Measured(store, jobs, finished)
    for _ in range(6):
        measured.tick(None)
    training = sum(load_record(store, job).value.phase is JobPhase.RUNNING for job in measured.jobs)
    assert training == jobs, f"only {training} of {jobs} jobs train"
    for beat in range(10):
        measured.tick(beat)
    measured.requests.clear()
    took_s = sorted(measured.tick(beat) for beat in range(ticks))
    hours = ticks * THRIFTY.tick_s / 3600
    per_hour = {kind: number / jobs / hours for kind, number in sorted(measured.requests.items())}
    usd = sum(USD[kind] * number for kind, number in per_hour.items())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cuts = quantiles(took_s, n=100)
    told = ", ".join(f"{number:.0f} {kind}" for kind, number in per_hour.items())
    print(f"{name}: p50 {cuts[49]:.3f} s, p99 {cuts[98]:.3f} s, {memory:.0f} MiB; a job-hour: {told}, ${usd:.5f}")
    if measured.pool:
        measured.pool.shutdown()


def measure_idle() -> None:
    """An hour of a controller without jobs, beside 1,000 that are over; with the lease."""
    measured = Measured(MemoryStore(), 0, 1000)
    for _ in range(round(3600 / THRIFTY.idle_tick_s)):
        measured.controller.tick(1)
        measured.elapsed_s += THRIFTY.idle_tick_s
    measured.requests["replace"] += round(3600 / (DEFAULT_TTL_S / 2))
    usd = sum(USD[kind] * number for kind, number in measured.requests.items()) * 24 * 30
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(measured.requests.items()))
    print(f"idle: an hour: {told}; ${usd:.2f} in 30 days")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", default="100,1000,5000,10000")
    parser.add_argument("--finished", type=int, default=0)
    parser.add_argument("--ticks", type=int, default=100)
    parser.add_argument("--seaweed", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        measure(f"{given.one} jobs" + f" beside {given.finished} that are over" * bool(given.finished),
                MemoryStore(), given.one, given.ticks, given.finished)  # fmt: skip
        return
    one = [sys.executable, "-m", "benchmarks.controller_scale", "--ticks", str(given.ticks), "--one"]
    for jobs in given.jobs.split(","):
        subprocess.run([*one, jobs], check=True)
    if given.finished:
        subprocess.run([*one, "100", "--finished", str(given.finished)], check=True)
    measure_idle()
    if given.seaweed:
        _measure_seaweed(min(given.ticks, 30))


def _measure_seaweed(ticks: int) -> None:
    with running_seaweed() as url, pytest.MonkeyPatch.context() as patch:
        use_server(url, patch)
        make_bucket(BUCKET)
        measure("100 jobs on SeaweedFS", open_store(new_store_url(), os.environ), 100, ticks)


if __name__ == "__main__":
    main()
