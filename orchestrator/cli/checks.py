"""What the doctor looks at: each check says what it saw, and changes nothing but the probe's own keys in the store."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.cli.invocation import Invocation
from orchestrator.errors import ElasticError
from orchestrator.reading import text
from orchestrator.store.examination import Finding as Examined
from orchestrator.store.examination import Need, examine
from orchestrator.store.probe import Check as Tried
from orchestrator.store.probe import probe
from orchestrator.store.protocol import Store

LEAST_PYTHON = (3, 11)
LEAST_TORCH = (2, 10)
LEAST_FREE_BYTES = 2 * 1024**3
SUBPROCESS_TIMEOUT_S = 60.0
DOCKER_TIMEOUT_S = 10.0

_ASK_TORCH = (
    "import os, torch; gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0; "
    "print(torch.__version__, torch.version.cuda, gpus, os.path.exists(torch.__spec__.cached))"
)


class Verdict(StrEnum):
    """How a check came out. Only a failure keeps jobs from running."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What a check saw, and what to do about it."""

    name: str
    verdict: Verdict
    seen: str
    advice: str = ""

    def as_data(self) -> dict[str, str]:
        """For -o json."""
        return {"check": self.name, "verdict": str(self.verdict), "seen": self.seen, "advice": self.advice}


Check = Callable[[], Finding | Sequence[Finding]]


def run_checks(checks: Sequence[Check]) -> list[Finding]:
    """Run them at the same time: most of them wait for something. One check may find several things."""
    with ThreadPoolExecutor(len(checks)) as pool:
        seen = list(pool.map(lambda check: check(), checks))
    return [finding for one in seen for finding in ([one] if isinstance(one, Finding) else one)]


def checks_for(invocation: Invocation, store_url: str | None) -> list[Check]:
    """All checks, for this machine and the store of this call."""
    # boto3's modules import each other: two checks that were the first to import one each could wait for each other.
    import orchestrator.store.s3  # noqa: F401

    def on_store(name: str, check: Callable[[Store], Finding | Sequence[Finding]]) -> Check:
        def run() -> Finding | Sequence[Finding]:
            try:
                return check(invocation.open_store(store_url))
            except ElasticError as error:
                return Finding(name, Verdict.FAIL, str(error), "name another store with --store or ELASTIC_STORE")

        return run

    url = store_url or invocation.store_url or invocation.environ.get("ELASTIC_STORE", "")
    return [
        check_python,
        check_torch,
        check_gpus,
        check_cores,
        on_store("store", lambda store: check_store(store, invocation)),
        on_store("disk", check_disk),
        on_store("controller", check_controller),
        on_store("ec2", lambda store: check_ec2(store, invocation)),
        on_store("pool", lambda store: check_pool(store, invocation)),
        lambda: check_docker(invocation.environ),
        lambda: check_aws(needed=url.startswith("s3:") and not invocation.environ.get("ELASTIC_S3_ACCESS_KEY_ID")),
    ]


def check_python() -> Finding:
    """The interpreter."""
    seen = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < LEAST_PYTHON:
        return Finding("python", Verdict.FAIL, seen, "install Python 3.11 or later")
    return Finding("python", Verdict.OK, seen)


def check_torch() -> Finding:
    """torch, in a process of its own: its import takes seconds, and a broken one may take the process with it."""
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH],
            capture_output=True,
            text=True,
            timeout=SUBPROCESS_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "torch",
            Verdict.WARN,
            f"its import took more than {SUBPROCESS_TIMEOUT_S:g} s",
            "try again on a less busy machine",
        )
    if asked.returncode != 0:
        reason = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        return Finding("torch", Verdict.FAIL, f"cannot be imported: {reason}", "install it again with: uv sync")
    version, cuda, gpus, compiled = asked.stdout.split()
    built = f"CUDA {cuda}" if cuda != "None" else "CPU only"
    seen = f"{version} ({built}), sees {text.count(int(gpus), 'GPU')}"
    if tuple(int(part) for part in version.split("+")[0].split(".")[:2]) < LEAST_TORCH:
        return Finding("torch", Verdict.FAIL, seen, "install torch 2.10 or later: earlier ones load unsafe checkpoints")
    if compiled == "False":
        seen += "; no bytecode of it is kept, so it is compiled at each start of a worker, which takes twice as long"
        advice = "unset PYTHONDONTWRITEBYTECODE, or compile once for all: uv sync --compile-bytecode"
        return Finding("torch", Verdict.WARN, seen, advice)
    return Finding("torch", Verdict.OK, seen)


def check_gpus() -> Finding:
    """GPUs as NVML sees them: what their utilisation is measured by."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        reason = "no NVIDIA driver" if isinstance(error, pynvml.NVMLError_LibraryNotFound) else str(error)
        return Finding(
            "gpu", Verdict.OK, f"none ({reason})", "jobs use CPU cores, and utilisation is the cores' share kept busy"
        )
    try:
        names = [
            str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)))
            for i in range(pynvml.nvmlDeviceGetCount())
        ]
        return Finding("gpu", Verdict.OK, ", ".join(names) or "none")
    except pynvml.NVMLError as error:
        return Finding("gpu", Verdict.WARN, f"NVML fails: {error}", "compare with what nvidia-smi says")
    finally:
        pynvml.nvmlShutdown()


def check_cores() -> Finding:
    """How many workers fit on this machine without GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cpu", Verdict.OK, text.count(cores, "core"))


def check_store(store: Store, invocation: Invocation) -> Sequence[Finding]:
    """Whether the store keeps its conditions, on which everything rests; of an S3 service, all that is tried."""
    if not store.url.startswith("s3:"):
        tried = probe(store, invocation.nonce).checks
        return [_summary(store, [check for check in tried if not check.kept], len(tried))]
    found = examine(store, invocation.nonce)
    broken = [one.check for one in found if one.need is Need.REQUIRED and not one.check.kept]
    each = [_of_service(one) for one in found if one.name != "conditions" or not one.check.kept]
    return [_summary(store, broken, len(found)), *each]


def _summary(store: Store, broken: Sequence[Tried], tried: int) -> Finding:
    if not broken:
        return Finding("store", Verdict.OK, f"{store.url} keeps conditional writes ({tried} promises tried)")
    seen = "; ".join(f"{check.promise}: {check.seen}" for check in broken)
    advice = "use AWS S3, a server that keeps conditional writes, or a local directory"
    return Finding("store", Verdict.FAIL, f"{store.url} does not keep what jobs rest on: {seen}", advice)


def _of_service(one: Examined) -> Finding:
    """A line of the table of what an S3 service does: only what is required makes jobs impossible."""
    verdict = Verdict.OK
    if not one.check.kept and one.need is not Need.NOT_USED:
        verdict = Verdict.FAIL if one.need is Need.REQUIRED else Verdict.WARN
    return Finding(f"store: {one.name}", verdict, f"{one.check.promise} ({one.need}): {one.check.seen}")


def check_disk(store: Store) -> Finding:
    """Room for checkpoints, where a local store keeps them or else where run directories lie."""
    import tempfile

    path = Path(unquote(urlsplit(store.url).path)) if store.url.startswith("file:") else Path(tempfile.gettempdir())
    free_bytes = shutil.disk_usage(path).free
    seen = f"{text.size(free_bytes)} free at {path}"
    if free_bytes < LEAST_FREE_BYTES:
        return Finding(
            "disk", Verdict.WARN, seen, "a ResNet-18 checkpoint has 130 MiB: make room, or checkpoints will be skipped"
        )
    return Finding("disk", Verdict.OK, seen)


def check_controller(store: Store) -> Finding:
    """Who looks after the jobs."""
    from orchestrator.store.lease import read_lease
    from orchestrator.store.owner import owner_alive

    lease = read_lease(store)
    if lease is None or lease.released or owner_alive(lease.owner) is False:
        return Finding(
            "controller",
            Verdict.OK,
            "none is alive",
            "elastic submit starts one here; elastic daemon runs one in the foreground",
        )
    who = f"{lease.owner.label}, pid {lease.owner.pid}, epoch {lease.epoch}"
    if owner_alive(lease.owner):
        return Finding("controller", Verdict.OK, f"alive: {who}")
    return Finding("controller", Verdict.OK, f"on another machine: {who}; whether it is alive shows in its renewals")


def check_ec2(store: Store, invocation: Invocation) -> Finding:
    """Whether instances of EC2 could be had, where `elastic bootstrap` has set up an account for the store."""
    from orchestrator.fleets.owned import holdings_in_account
    from orchestrator.jobs.cloud_account import load_cloud_account

    account = load_cloud_account(store)
    if account is None:
        return Finding("ec2", Verdict.OK, "no account is set up for this store; elastic bootstrap does that")
    where = f"account {account.account_id}, {account.region} ({', '.join(sorted(account.subnets))})"
    held = holdings_in_account(
        store, invocation.nonce, now=invocation.now, monotonic=invocation.monotonic, log=lambda _: None
    )
    try:
        running = 0 if held is None else len(held.owned())
    except ElasticError as error:
        return Finding("ec2", Verdict.FAIL, f"{where}: {error}", "jobs with resources.fleet: ec2 cannot run until then")
    return Finding("ec2", Verdict.OK, f"{where}; {text.count(running, 'instance')} of this store there now")


def check_pool(store: Store, invocation: Invocation) -> Finding:
    """What machines of one's own have joined the store."""
    from orchestrator.fleets.pool.listing import in_all, look_at_pool

    look = look_at_pool(store, invocation.now())
    machines = [machine for machine in look.machines if machine.state != "gone"]
    if look.unreadable:
        names = ", ".join(look.unreadable)
        advice = "run the same version of elastic there as here; elastic pool tells more"
        return Finding("pool", Verdict.WARN, f"what {names} reports cannot be read", advice)
    if not machines:
        return Finding("pool", Verdict.OK, "no machine has joined this store; elastic agent --join does that")
    seen = f"{text.count(len(machines), 'machine')}; {in_all(machines)} free"
    if silent := [machine.report.machine for machine in machines if machine.state == "silent"]:
        advice = "see whether elastic agent --join still runs there, and reaches the store"
        return Finding("pool", Verdict.WARN, f"{seen}; nothing is heard of {', '.join(silent)}", advice)
    return Finding("pool", Verdict.OK, seen)


def check_docker(environ: Mapping[str, str]) -> Finding:
    """A Docker engine: only jobs with an image need one."""
    from orchestrator.fleets.engine import EngineError, described
    from orchestrator.fleets.local import Machine

    try:
        info = described(environ, DOCKER_TIMEOUT_S)
    except EngineError as error:
        verdict = Verdict.OK if error.may_pass else Verdict.WARN
        return Finding("docker", verdict, str(error), "only jobs with resources.image need one here")
    runtimes = info.get("Runtimes") or {}
    seen = f"engine {info['ServerVersion']}, which runs jobs with resources.image"
    if not info.get("LiveRestoreEnabled"):
        seen += "; when it is started again they end with it, and go on from their last commit (live-restore is off)"
    if Machine.this({}).gpus and "nvidia" not in runtimes and shutil.which("nvidia-container-runtime-hook") is None:
        advice = (
            "install nvidia-container-toolkit and run `nvidia-ctk runtime configure`, or GPUs stay out of containers"
        )
        return Finding("docker", Verdict.WARN, f"{seen}; no NVIDIA runtime", advice)
    return Finding("docker", Verdict.OK, seen)


def check_aws(*, needed: bool) -> Finding:
    """Whose AWS credentials these are: asked of AWS only where some are configured.

    What they may write into the store, and read of EC2, is tried by the checks of these.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    session = boto3.Session()
    try:
        if session.get_credentials() is None:
            advice = "set AWS_PROFILE or run: aws configure" if needed else ""
            seen = "no credentials configured" + ("" if needed else "; only needed for a store on s3://")
            return Finding("aws", Verdict.FAIL if needed else Verdict.OK, seen, advice)
        config = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1})
        client = session.client("sts", config=config, region_name=session.region_name or "us-east-1")
        identity = client.get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        return Finding(
            "aws",
            Verdict.WARN,
            f"credentials are configured, but STS refuses or does not answer: {error}",
            "renew them: aws sso login, or aws configure",
        )
    rights = "what it may write into the store is tried above" if needed else "not needed: the store is not on s3://"
    return Finding("aws", Verdict.OK, f"identity {identity['Arn']}; {rights}")
