"""A pool of two hosts on this machine, with a real controller, agents and ranks: killed, ended, asked to leave."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.fleets.pool.listing import PoolMachine, read_pool
from orchestrator.fleets.pool.records import SILENT_AFTER_S
from orchestrator.fleets.processes import MARKER
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.support.s3_servers import seaweed_server, seaweed_store  # noqa: F401
from tests.survival.light_job import STEPS, LightJob
from tests.survival.system import JOB, System, kill_all

Host = subprocess.Popen[bytes]
LEAVES_WITHIN_S = 120.0
"""Where nothing keeps it: the product gives those that do not end longer than a test may take."""


@dataclass
class Pool:
    """Hosts of a system's store."""

    system: System
    hosts: dict[str, Host] = field(default_factory=dict)

    def join(self, name: str, cores: int = 2, *options: str) -> Host:
        """A host whose word has been heard."""
        command = [sys.executable, "-m", "orchestrator.cli.main", "agent", "--join", self.system.store.url]
        command += ["--name", name, "--cores", str(cores), "--gpus", "", *options]
        with open(self.system.root / f"daemon-{name}-{len(self.hosts)}.log", "ab") as log:
            host = subprocess.Popen(command, stdout=log, stderr=log, env=self.system.environ, start_new_session=True)
        self.hosts[name] = host
        self.system.wait(
            lambda: self.states().get(name) == "ready" and self.pid(name) == host.pid, f"{name} has joined"
        )
        return host

    def machines(self) -> list[PoolMachine]:
        return read_pool(self.system.store, datetime.now(UTC))

    def states(self) -> dict[str, str]:
        return {machine.report.machine: machine.report.state for machine in self.machines()}

    def pid(self, name: str) -> int:
        return next(machine.report.host.pid for machine in self.machines() if machine.report.machine == name)

    def where(self) -> str:
        """The machine whose agent trains, by what runs; empty while that is on none, or on more than one."""
        machines = {self.machine_of(rank) for rank in self.system.processes("rank")} - {""}
        return machines.pop() if len(machines) == 1 else ""

    def machine_of(self, process: psutil.Process) -> str:
        """Empty for one that has just ended."""
        try:
            return Path(process.environ()[MARKER]).parent.name
        except (psutil.NoSuchProcess, psutil.AccessDenied, KeyError):
            return ""

    def kill_all_of(self, name: str) -> None:
        """As if its power was cut."""
        victims = [process for process in self.system.instance_processes() if self.machine_of(process) == name]
        os.kill(self.hosts[name].pid, signal.SIGKILL)
        kill_all(victims)
        self.hosts[name].wait(10)

    def close(self) -> None:
        for host in self.hosts.values():
            host.kill()
            host.wait()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with pool_at(tmp_path, None) as pool:
        yield pool


@contextmanager
def pool_at(root: Path, store_url: str | None) -> Iterator[Pool]:
    system = System.at(root, seed=7, store_url=store_url)
    pool = Pool(system)
    system.start_daemon()
    try:
        yield pool
    finally:
        pool.close()
        system.close()


def on_pool(job: LightJob, ladder: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A job that keeps its ranks light, on the pool."""
    changes = job.changes
    ladder = ladder or [{"workers": 1}, {"workers": 2}]
    return {**changes, "resources": {**changes["resources"], "fleet": "pool", "ladder": ladder}}


def trains(system: System) -> bool:
    return system.step > 0 and system.committed_step > 0


def finish(pool: Pool, job: LightJob) -> None:
    """It ends with the right bits, and leaves nothing on any machine."""
    system = pool.system
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert system.digest() == job.result, system.story()
    system.wait_until_quiet()
    system.wait(lambda: all(not machine.held for machine in pool.machines()), "nothing is held")


def test_it_grows_from_one_machine_to_the_other_and_an_agent_that_is_killed_is_followed(
    pool: Pool, tmp_path: Path
) -> None:
    system, job = pool.system, LightJob(tmp_path)
    pool.join("small", 1)
    pool.join("large", 2, "--label", "site=lab")
    ladder = [{"workers": 1, "instance": "small"}, {"workers": 2, "instance": "site=lab"}]
    scaling = {"up_above": 25, "down_below": 1, "window": "3s", "warm_up": "1s", "cooldown": "1s"}
    system.submit(**on_pool(job, ladder), scaling=scaling)
    system.wait(lambda: trains(system), "it trains")
    assert pool.where() == "small"
    rows = system.run("instances", "-o", "json")
    assert '"usd_per_hour": 0.0' in rows
    assert '"where": "the pool' not in rows, "what belongs to a job is no orphan"
    job.keep_busy()
    system.wait(lambda: len(system.processes("rank")) == 2 and trains(system), "two workers")
    assert pool.where() == "large"
    [grown] = system.events(EventKind.SCALE_UP)
    assert grown.inputs["utilization_percent"] > 25
    assert system.record.lost_steps == 0
    system.kill("agent")
    system.wait(lambda: system.trains(3), "the next generation")
    assert system.events(EventKind.INSTANCE_LOST), system.story()
    assert system.record.last_generation == 3, system.story()
    finish(pool, job)


def test_a_host_that_is_asked_to_leave_loses_no_step_and_is_followed_by_the_other(pool: Pool, tmp_path: Path) -> None:
    system, job = pool.system, LightJob(tmp_path)
    pool.join("one", 1)
    pool.join("two", 1)
    system.submit(**on_pool(job, [{"workers": 1}]))
    system.wait(lambda: trains(system), "it trains")
    left = pool.where()
    pool.hosts[left].terminate()
    assert pool.hosts[left].wait(LEAVES_WITHIN_S) == 0
    assert pool.states()[left] == "gone"
    system.wait(lambda: pool.where() not in ("", left), "it trains on the other")
    finish(pool, job)
    assert (system.record.lost_steps, system.record.last_generation) == (0, 2), system.story()
    assert job.steps() == list(range(1, STEPS + 1))


def test_a_machine_that_is_gone_at_once_is_lost_and_the_job_goes_on_elsewhere(pool: Pool, tmp_path: Path) -> None:
    system, job = pool.system, LightJob(tmp_path)
    pool.join("one", 1)
    pool.join("two", 1)
    system.submit(**on_pool(job, [{"workers": 1}]))
    system.wait(lambda: trains(system), "it trains")
    lost = pool.where()
    pool.kill_all_of(lost)
    system.wait(lambda: pool.where() not in ("", lost), "it trains on the other", SILENT_AFTER_S + 90)
    [told] = system.events(EventKind.INSTANCE_LOST)
    silence = re.search(rf"{lost} has said nothing for (\d+) s", told.message)
    assert silence is not None and int(silence[1]) >= SILENT_AFTER_S, system.story()
    finish(pool, job)


def test_a_host_that_is_killed_ends_no_job_and_the_next_adopts_its_agents(pool: Pool, tmp_path: Path) -> None:
    system, job = pool.system, LightJob(tmp_path)
    pool.join("one", 1)
    system.submit(**on_pool(job, [{"workers": 1}]))
    system.wait(lambda: trains(system), "it trains")
    ranks = system.processes("rank")
    pool.hosts["one"].kill()
    pool.hosts["one"].wait()
    made = len(job.steps())
    system.wait(lambda: len(job.steps()) > made + 50, "it trains on without a host")
    pool.join("one", 1)
    assert system.processes("rank") == ranks
    finish(pool, job)
    assert (system.record.last_generation, system.record.lost_steps) == (1, 0), system.story()


def test_without_room_it_waits_says_why_and_begins_when_a_machine_joins(pool: Pool, tmp_path: Path) -> None:
    system, job = pool.system, LightJob(tmp_path)
    pool.join("small", 1)
    system.submit(**on_pool(job, [{"workers": 2}]))
    why = "2 cores of a machine without GPUs, wanted, and the pool has small: 1 of 1 core free"
    system.wait(lambda: why in system.record.reason, "it says why it waits")
    assert "waiting for capacity" in system.run("show", JOB)
    pool.join("large", 2)
    system.wait(lambda: trains(system), "it trains")
    assert pool.where() == "large"
    finish(pool, job)


def test_two_instances_on_two_machines_train_together(pool: Pool, tmp_path: Path) -> None:
    system, job = pool.system, LightJob(tmp_path)
    pool.join("one", 1)
    pool.join("two", 1)
    system.submit(**on_pool(job, [{"count": 2, "workers": 1}]))
    system.wait(lambda: trains(system) and len(system.processes("rank")) == 2, "they train")
    assert {pool.machine_of(rank) for rank in system.processes("rank")} == {"one", "two"}
    finish(pool, job)


def test_a_second_host_of_a_name_is_refused(pool: Pool) -> None:
    pool.join("one", 1)
    command = [sys.executable, "-m", "orchestrator.cli.main", "agent", "--join", pool.system.store.url, "--name", "one"]
    answer = subprocess.run(command, env=pool.system.environ, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 2
    assert "join under another name with --name" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.requires("seaweedfs")
@pytest.mark.timeout(450)
def test_on_a_bucket_it_grows_and_a_host_leaves_without_a_lost_step(
    tmp_path: Path,
    seaweed_store: str,  # noqa: F811
) -> None:
    with pool_at(tmp_path, seaweed_store) as pool:
        system, job = pool.system, LightJob(tmp_path)
        pool.join("one", 2)
        system.submit(**on_pool(job))
        system.wait(lambda: trains(system), "it trains")
        pool.join("two", 2)
        system.run("resize", JOB, "--workers", "2")
        system.wait(lambda: len(system.processes("rank")) == 2 and trains(system), "two workers")
        left = pool.where()
        pool.hosts[left].terminate()
        assert pool.hosts[left].wait(LEAVES_WITHIN_S) == 0
        finish(pool, job)
        assert system.record.lost_steps == 0, system.story()
