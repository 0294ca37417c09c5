"""What controller and agent tell each other through the bucket: the assignment down, the heartbeat up."""

from collections.abc import Sequence
from datetime import datetime
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.store.document import Document

LEAVE_WITHIN_S = 300.0
"""An agent that has to end begins so long before: time to checkpoint and to commit."""

LOOPBACK = "127.0.0.1"
"""Where instances on one machine reach each other."""

AgentState = Literal["booting", "ready", "restoring", "running", "draining", "stopped", "leaving"]

RECENT_SAMPLES = 10
"""Seconds of utilisation that the shown figure is the mean of."""


class Frozen(BaseModel):
    """A part of a heartbeat, or of an assignment."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class AssignedProgram(Frozen):
    """A person's own program, which runs instead of elastic's trainer."""

    command: tuple[str, ...]
    """Program and arguments, with `{config}` and `{run_dir}` where the paths of this run are to stand."""
    working_dir: str | None = None
    """Where it works, on the instance or in the image; None: wherever it is started."""
    threads: int = 1
    """CPU threads a worker."""


class Assignment(Document):
    """What one instance is to do. A new generation or leader writes a new one; the agent follows the latest."""

    epoch: int
    job: str
    generation: int
    action: Literal["run", "drain", "stop"]
    """run: train; drain: checkpoint, commit, stop, stay; stop: end the workers without more ado."""
    dump_stacks: bool = False
    """With stop: the workers stand still, so have them say first where."""
    node_rank: int = 0
    nodes: int = 1
    workers: int = 1
    instance_id: str = ""
    """The machine that it is for, in its provider's words, as its heartbeat told it; empty: whichever has the name."""
    master_address: str = LOOPBACK
    master_port: int = 0
    resume: str | None = None
    """Prefix of the checkpoint to start from."""
    training: dict[str, Any] = Field(default_factory=dict)
    """config.json of the run directory."""
    program: AssignedProgram | None = None
    """None: elastic's own trainer."""
    env: dict[str, str] = Field(default_factory=dict)
    allowance_s: float | None = None
    """How long the instance may live in all, from its start; None: as long as it is needed."""
    checkpoint_every_s: float = 60.0
    checkpoints_kept: int = 3
    stall_after_s: float = 900.0
    """The controller starts workers again that have shown no sign of life for so long."""
    keep_free_bytes: int = 0
    memory_bytes: int | None = None
    """The most that a rank's container may use; None: what the machine has."""
    shared_memory_bytes: int = 1024**3
    """Of /dev/shm, for the ranks of an instance together, where they run in containers."""

    def same_order(self, other: "Assignment") -> bool:
        """Whether both say the same, whoever wrote them when."""
        return self.model_copy(update={"seq": 0, "nonce": ""}) == other.model_copy(update={"seq": 0, "nonce": ""})


class TrainerProgress(Frozen):
    """The last line of progress.jsonl: only `step` is asked of a trainer, the rest is shown where it is given."""

    step: int
    total_steps: int | None = None
    epoch: float | None = None
    samples: int | None = None
    samples_per_second: float | None = None
    loss: float | None = None
    class_loss: float | None = None
    consistency_loss: float | None = None
    consistency_weight: float | None = None
    learning_rate: float | None = None
    ema_decay: float | None = None
    accuracy: float | None = None
    student_accuracy: float | None = None
    teacher_accuracy: float | None = None
    data_wait: float | None = None
    memory_bytes: int | None = None
    checkpoint_stall_s: float | None = None
    world_size: int | None = None


def latest_progress(reports: Sequence[TrainerProgress]) -> TrainerProgress | None:
    """What the nodes of a generation, in their order, tell together.

    It is the first one's report, for only that knows losses and accuracies; at the furthest step that any has made.
    """
    if not reports:
        return None
    return reports[0].model_copy(update={"step": max(report.step for report in reports)})


class Utilization(Frozen):
    """One sample a second since the workers' first step, newest last; on nodes that tell of none, since their start."""

    source: Literal["nvml", "cpu"]
    """nvml: share of time in which a kernel ran, mean over the GPUs; cpu: share of the instance's cores kept busy."""
    percents: tuple[float, ...] = ()
    """At most the last few minutes."""
    count: int = 0
    """How many samples there were in all: more than `percents` holds, later on."""


def recent_percent(utilizations: Sequence[Utilization]) -> float | None:
    """The mean of the last seconds over all instances: the figure that is shown."""
    known = [fmean(u.percents[-RECENT_SAMPLES:]) for u in utilizations if u.percents]
    return round(fmean(known), 1) if known else None


class TrainerExit(Frozen):
    """How the workers of a generation ended.

    failed: trying again may help; refused: what was asked for cannot be done, and trying again would be for nothing;
    lost: by no fault of theirs, with what they ran in, as with an instance.
    """

    outcome: Literal["finished", "drained", "failed", "refused", "lost"]
    code: int
    message: str
    step: int | None = None
    """The last step that they reported."""


class Notice(Frozen):
    """Something that the agent saw and the controller should tell: numbered by the agent, told once."""

    number: int
    kind: Literal["checkpoint_rejected", "checkpoint_failed", "preemption_notice", "note"]
    message: str


class Heartbeat(Frozen):
    """What an instance says of itself, about once a second. One writer: its agent."""

    instance: str
    count: int
    at: datetime
    state: AgentState
    """booting: on its way to ready; ready: waits for work and can begin at once; stopped: the workers of `generation`
    have ended (see `exit`); leaving: the agent ends.
    """
    uptime_s: float = 0.0
    """How long the instance exists, by its own clock: what it has cost, whatever another's clock did meanwhile."""
    instance_id: str = ""
    """What its provider calls the machine; empty where nobody gives it another name."""
    address: str = LOOPBACK
    port: int = 0
    at_risk: bool = False
    """Whether its provider advises to move off it before it may be taken away."""
    ends_at: datetime | None = None
    """When its provider takes it away, once that is announced: it drains and leaves, and needs a replacement."""
    job: str | None = None
    epoch: int = 0
    generation: int = 0
    progress: TrainerProgress | None = None
    committed_step: int | None = None
    utilization: Utilization | None = None
    exit: TrainerExit | None = None
    activity: str = ""
    """What it does before the first step, when that takes long: pulling an image, bringing images, looking at them."""
    image: str = ""
    """The container image of its workers, by its digest; empty until it is there, and where they are processes."""
    complaint: str = ""
    """What keeps images or checkpoint from coming, or checkpoints from going, while it tries again and again."""
    uncommitted_s: float = 0.0
    """For how long there have been steps of which none is committed: all of them would be lost."""
    notices: tuple[Notice, ...] = ()
