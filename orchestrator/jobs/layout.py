"""Where each thing lives in the bucket. Numbers are zero-padded so that names sort in the order of what they count.

Only the lease's place is not here: `orchestrator.store.lease`, which knows no jobs, has it.
"""

import re

from orchestrator.errors import UsageError
from orchestrator.spec.names import is_job_name

IDENTITY = "control/identity.json"
"""Tells this store from any other that was, or will be, at the same address."""
BELL = "control/bell.json"
"""Overwritten by whoever has left something under `TODO`, so that a controller need not list to know that."""
POOL_ORDERS = "control/pool/orders.json"
"""What the machines of the pool are to run."""
POOL_MACHINES = "control/pool/machines/"
"""What each of them has, and does."""
JOBS = "jobs/"
INSTANCES = "instances/"
TODO = "todo/"
"""All that waits for a controller, under one prefix: one listing shows it, and finished jobs add nothing to it."""
TODO_JOBS = f"{TODO}jobs/"
TODO_REQUESTS = f"{TODO}requests/"


def job_prefix(job: str) -> str:
    """The prefix of everything about one job; refuses names that could leave it."""
    return f"{JOBS}{_checked(job)}/"


def _checked(job: str) -> str:
    if not is_job_name(job):
        raise UsageError(f"'{job}' is not a job name: use lower case letters, digits and hyphens, at most 63")
    return job


def spec_key(job: str) -> str:
    """What was submitted; never rewritten."""
    return f"{job_prefix(job)}spec.json"


def record_key(job: str) -> str:
    """The truth about the job."""
    return f"{job_prefix(job)}record.json"


def head_key(job: str) -> str:
    """The checkpoint to resume from."""
    return f"{job_prefix(job)}head.json"


def todo_key(job: str) -> str:
    """The mark of a job that a controller has to look after: from its submit until nothing can be due for it."""
    return f"{TODO_JOBS}{_checked(job)}"


def former_key(job: str) -> str:
    """What is kept of the jobs of this name that were removed."""
    return f"control/former/{_checked(job)}.json"


def pool_machine_key(machine: str) -> str:
    """What a machine of the pool says of itself."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", machine) is None:
        raise UsageError(f"'{machine}' is no name of a machine: use letters, digits and hyphens, at most 63")
    return f"{POOL_MACHINES}{machine}.json"


def requests_prefix(job: str) -> str:
    """What people have asked of a job."""
    return f"{TODO_REQUESTS}{_checked(job)}/"


def request_key(job: str, request: str) -> str:
    """One request."""
    return f"{requests_prefix(job)}{request}.json"


def events_prefix(job: str) -> str:
    """The story of the job."""
    return f"{job_prefix(job)}events/"


def event_key(job: str, number: int) -> str:
    """One event, by its number."""
    return f"{events_prefix(job)}{number:012d}.json"


def decisions_prefix(job: str) -> str:
    """What was decided on, for those who want to know why."""
    return f"{job_prefix(job)}decisions/"


def decision_key(job: str, seq: int, epoch: int) -> str:
    """All that the decision of a leader saw that was to become version `seq` of the record."""
    return f"{decisions_prefix(job)}{seq:012d}-e{epoch}.json"


def parse_decision(key: str) -> tuple[int, int] | None:
    """Version and epoch of a decision's key; None: it is none."""
    found = re.fullmatch(r"(\d{12,})-e(\d+)\.json", key.rpartition("/")[2])
    return (int(found[1]), int(found[2])) if found else None


def pins_prefix(job: str) -> str:
    """Who reads which checkpoint now."""
    return f"{job_prefix(job)}pins/"


def pin_key(job: str, pin: str) -> str:
    """One reader's pin."""
    return f"{pins_prefix(job)}{pin}.json"


def checkpoints_prefix(job: str) -> str:
    """All checkpoints."""
    return f"{job_prefix(job)}checkpoints/"


def checkpoint_prefix(job: str, step: int, generation: int) -> str:
    """One checkpoint's files: unique, since one generation commits one checkpoint a step."""
    return f"{checkpoints_prefix(job)}{step:012d}-g{generation:06d}/"


def checkpoint_at(job: str, name: str) -> str:
    """The prefix of a checkpoint by its name in a listing."""
    return f"{checkpoints_prefix(job)}{name}/"


def parse_checkpoint(name: str) -> tuple[int, int] | None:
    """Step and generation of a checkpoint by its name; None for what only lies where checkpoints do."""
    found = re.fullmatch(r"(\d{12})-g(\d{6})", name)
    return (int(found[1]), int(found[2])) if found else None


def checkpoint_step(prefix: str) -> int:
    """The step of a checkpoint by its prefix."""
    return int(prefix.rstrip("/").rpartition("/")[2].partition("-g")[0])


def manifest_key(checkpoint: str) -> str:
    """What makes a checkpoint whole."""
    return f"{checkpoint}manifest.json"


def progress_prefix(job: str) -> str:
    """The trainer's progress lines, in chunks."""
    return f"{job_prefix(job)}progress/"


def progress_key(job: str, generation: int, chunk: int) -> str:
    """One chunk of a generation's progress lines."""
    return f"{progress_prefix(job)}g{generation:06d}-{chunk:08d}.jsonl"


def logs_prefix(job: str, generation: int | None = None, stream: str | None = None) -> str:
    """Logs of a job, of one generation, or of one stream ('rank00003', 'node000-launcher') in it."""
    prefix = f"{job_prefix(job)}logs/"
    if generation is not None:
        prefix += f"g{generation:06d}/"
        if stream is not None:
            prefix += f"{stream}/"
    return prefix


def log_key(job: str, generation: int, stream: str, chunk: int) -> str:
    """One chunk of a stream."""
    return f"{logs_prefix(job, generation, stream)}{chunk:08d}.log"


def rank_stream(rank: int) -> str:
    """The stream of what a rank prints."""
    return f"rank{rank:05d}"


def launcher_stream(node_rank: int) -> str:
    """The stream of what torchrun on a node prints."""
    return f"node{node_rank:03d}-launcher"


def assignment_key(instance: str) -> str:
    """Controller to agent."""
    return f"{INSTANCES}{instance}/assignment.json"


def heartbeat_key(instance: str) -> str:
    """Agent to controller."""
    return f"{INSTANCES}{instance}/heartbeat.json"


def instance_id(job: str, generation: int, slot: int, attempt: int) -> str:
    """The name of an instance, which is also the token of its launch: launching it twice is launching it once."""
    return f"{job}-g{generation}-n{slot}-a{attempt}"


def instances_prefix(job: str) -> str:
    """What the keys of a job's instances begin with; those of other jobs may too (see `is_instance_of`)."""
    return f"{INSTANCES}{_checked(job)}-g"


def is_instance_of(instance: str, job: str) -> bool:
    """Whether this is the name of an instance of the job, and not of one whose name only begins like it."""
    return re.fullmatch(rf"{re.escape(job)}-g\d+-n\d+-a\d+", instance) is not None


def job_of(instance: str) -> str:
    """The job that an instance was launched for; empty: it is no name of an instance."""
    found = re.fullmatch(r"(.+)-g\d+-n\d+-a\d+", instance)
    return found[1] if found else ""


def generation_of(instance: str) -> int:
    """The generation that an instance was launched for."""
    return int(instance.rsplit("-g", 1)[1].partition("-")[0])
