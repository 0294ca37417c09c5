"""job.yaml as values: what a person may write, with units, bounds and defaults.

Pure: pydantic and the trainer's configuration model only. Checks of one field sit beside the field; checks of several
together end in `refuse`, which names the fields, so that whoever reads a file can point at them.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from orchestrator.spec.instance_types import find_gpu_type, why_no_type
from orchestrator.spec.names import JOB_NAME_PATTERN, is_job_name, looks_secret
from orchestrator.spec.own_program import Command, Config, command_misfits, config_misfits, working_dir_misfits
from orchestrator.spec.places import place_misfits, shown_misfits
from orchestrator.spec.units import Duration, PositiveDuration, Size, format_duration, format_size
from trainer.config import Misfit, Strict, TrainingConfig, refuse

ENV_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
REGION_PATTERN = r"^[a-z]{2}(-[a-z]+)+-\d+$"
POOL_ANY = "any"
POOL_KIND_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]*( [A-Za-z0-9_.-]+)*(=[A-Za-z0-9_.-]+)?"
MIN_CONTAINER_BYTES = 64 * 1024**2
"""No Python with a tensor library starts in less."""
MAX_WINDOW_S = 600.0
"""Agents keep so many seconds of utilisation: a longer window would never be whole."""

# The agent and torchrun set these for each worker.
_RESERVED_NAME = re.compile(r"^(ELASTIC_.*|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT)$")


def _job_name(name: str) -> str:
    if is_job_name(name):
        return name
    tame = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63]
    advice = f" (try '{tame}')" if tame else ""
    raise PydanticCustomError(
        "job_name",
        "must be lower-case letters, digits and hyphens, at most 63, not a hyphen first{advice}",
        {"advice": advice},
    )


def _env_name(name: str) -> str:
    if not re.fullmatch(ENV_NAME_PATTERN, name):
        raise PydanticCustomError("env_name", "must be letters, digits and underscores, and begin with no digit")
    if looks_secret(name):
        raise PydanticCustomError(
            "env_secret",
            "looks like a secret, and whoever can read the bucket can read it here; "
            "give workers their rights by the role of their instance",
        )
    if _RESERVED_NAME.match(name):
        raise PydanticCustomError("env_reserved", "is set by elastic itself; choose another name")
    return name


JobName = Annotated[str, AfterValidator(_job_name), WithJsonSchema({"type": "string", "pattern": JOB_NAME_PATTERN})]
EnvName = Annotated[str, AfterValidator(_env_name), WithJsonSchema({"type": "string", "pattern": ENV_NAME_PATTERN})]


Market = Literal["spot", "on_demand", "spot_then_on_demand"]


class Rung(Strict):
    """One size a job can have: so many instances of a type, so many workers on each."""

    instance: Annotated[str, Field(min_length=1)] = Field(
        "local",
        description="Instance type: of EC2, such as g6.xlarge; on the local fleet 'local', a process on this machine; "
        "in the pool 'any' (there the default), 'cpu' for a machine without GPUs, or what a machine is called by: its "
        "name, a GPU's such as l4 or rtx-4090, a label such as site=lab.",
    )
    count: Annotated[int, Field(ge=1)] = Field(1, description="How many instances.")
    workers: Annotated[int, Field(ge=1)] = Field(
        1,
        description="Workers on each instance: one for each GPU or, without GPUs, for each training.threads CPU cores "
        "(with a command: resources.threads).",
    )

    @property
    def world_size(self) -> int:
        """Workers on all instances together."""
        return self.count * self.workers


class Resources(Strict):
    """Where the job runs and the sizes it may take."""

    fleet: Literal["local", "ec2", "pool"] = Field(
        "local",
        description="Where instances come from; local: processes on this machine; ec2: the AWS account that "
        "`elastic bootstrap` has set up for the store; pool: machines of one's own that run `elastic agent --join`.",
    )
    market: Market = Field(
        "spot_then_on_demand",
        description="How instances of EC2 are bought; spot: cheap, and interrupted at times; spot_then_on_demand: "
        "on-demand where spot cannot be had, and back to spot when it can.",
    )
    region: Annotated[str, Field(pattern=REGION_PATTERN)] | None = Field(
        None,
        description="The job may run in this region of EC2 only; without it wherever the store's account is set up.",
        examples=["us-east-1"],
    )
    # A list is as good as a tuple from Python; inside, rungs are as strict as everything else.
    ladder: Annotated[tuple[Rung, ...], Field(min_length=1, strict=False)] = Field(
        (Rung(),), description="The sizes the job may take, smallest first."
    )
    image: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Container image of the workers, one container for each; without it they are processes.",
        examples=["elastic-trainer:1"],
    )
    memory: Size | None = Field(
        None,
        description="The most memory of a worker's container; without it what the machine has.",
        examples=["16GiB"],
    )
    shared_memory: Size = Field(
        1024**3, description="Shared memory (/dev/shm) of the containers of an instance together, which loaders use."
    )
    threads: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="CPU threads a worker of your own program (command), 1 if left out; elastic's trainer has "
        "training.threads.",
        examples=[2],
    )
    env: dict[EnvName, str] = Field(
        default_factory=dict,
        description="Environment variables of the workers; no secrets.",
        examples=[{"OMP_PROC_BIND": "true"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _any_machine_of_the_pool(cls, data: Any) -> Any:
        """A rung that says nothing of its instance is for any machine there."""
        if not isinstance(data, dict) or data.get("fleet") != "pool":
            return data
        ladder = data.get("ladder", ({},))
        if not isinstance(ladder, list | tuple):
            return data
        named = [{"instance": POOL_ANY, **rung} if isinstance(rung, dict) else rung for rung in ladder]
        return {**data, "ladder": named}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        refuse([*self._image_misfits(), *self._fleet_misfits(), *self._order_misfits()])
        return self

    def _image_misfits(self) -> list[Misfit]:
        if self.image is not None:
            return self._container_misfits()
        if self.memory is None:
            return []
        return [Misfit((("memory",),), "is a container's, and workers without an image are processes; name image too")]

    def _container_misfits(self) -> list[Misfit]:
        misfits = []
        if self.memory is not None and self.memory < MIN_CONTAINER_BYTES:
            misfits.append(Misfit((("memory",),), f"must be at least {format_size(MIN_CONTAINER_BYTES)}"))
        if self.image is not None and (self.image.startswith("-") or re.search(r"\s", self.image)):
            misfits.append(Misfit((("image",),), "must be a name such as registry.example/trainer:1, without spaces"))
        return misfits

    def _fleet_misfits(self) -> list[Misfit]:
        match self.fleet:
            case "local":
                return [*self._market_misfits("local fleet", "this machine"), *self._local_misfits()]
            case "pool":
                return [*self._market_misfits("pool", "wherever its machines are"), *self._pool_misfits()]
        return self._ec2_misfits()

    def _market_misfits(self, fleet: str, where: str) -> list[Misfit]:
        misfits = []
        if self.market != "spot_then_on_demand":
            misfits.append(Misfit((("market",), ("fleet",)), f"the {fleet} buys nothing; remove market"))
        if self.region is not None:
            misfits.append(Misfit((("region",), ("fleet",)), f"the {fleet} is {where}; remove region"))
        return misfits

    def _pool_misfits(self) -> list[Misfit]:
        misfits = []
        for i, rung in enumerate(self.ladder):
            if rung.instance == "local" or re.fullmatch(POOL_KIND_PATTERN, rung.instance) is None:
                message = (
                    f"'{rung.instance}' names no machine of the pool; write any, cpu, a machine's or a GPU's name, or "
                    "a label such as site=lab"
                )
                misfits.append(Misfit((("ladder", i, "instance"), ("fleet",)), message))
        return misfits

    def _local_misfits(self) -> list[Misfit]:
        misfits = []
        for i, rung in enumerate(self.ladder):
            if rung.instance != "local":
                fields = (("ladder", i, "instance"), ("fleet",))
                misfits.append(
                    Misfit(fields, f"the local fleet has no instance type but 'local', not '{rung.instance}'")
                )
        return misfits

    def _ec2_misfits(self) -> list[Misfit]:
        misfits = []
        for i, rung in enumerate(self.ladder):
            known = find_gpu_type(rung.instance)
            if message := why_no_type(rung.instance):
                misfits.append(Misfit((("ladder", i, "instance"), ("fleet",)), message))
            elif known and rung.workers > known.gpus:
                has = f"{known.gpus} GPU{'s' * (known.gpus > 1)}"
                message = f"{rung.workers} workers are more than {rung.instance} has GPUs, which is {has}"
                misfits.append(Misfit((("ladder", i, "workers"), ("ladder", i, "instance")), message))
        return misfits

    def _order_misfits(self) -> list[Misfit]:
        misfits = []
        for i, (below, rung) in enumerate(zip(self.ladder, self.ladder[1:], strict=False), start=1):
            # Two kinds of instance may give the same number of workers, one faster than the other.
            if rung.world_size < below.world_size or rung == below:
                has = f"{rung.world_size} worker{'s' * (rung.world_size > 1)} after {below.world_size}"
                misfits.append(
                    Misfit((("ladder", i), ("ladder", i - 1)), f"the ladder must climb: this rung has {has}")
                )
        return misfits


class Scaling(Strict):
    """When the job climbs or descends its ladder."""

    up_above: Annotated[float, Field(ge=0, le=100)] = Field(
        80.0, description="It grows when mean GPU utilisation, in percent, is above this."
    )
    down_below: Annotated[float, Field(ge=0, le=100)] = Field(
        30.0, description="It shrinks when mean GPU utilisation, in percent, is below this."
    )
    window: PositiveDuration = Field(
        60.0, description="How long the mean is taken over; a whole window has to be there."
    )
    warm_up: Duration = Field(10.0, description="Samples this soon after a start do not count.")
    cooldown: Duration = Field(120.0, description="Least time between two resizes.")
    min: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Fewest workers; without it the smallest rung.", examples=[1]
    )
    max: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Most workers; without it the largest rung.", examples=[8]
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        misfits = []
        if self.up_above <= self.down_below:
            message = f"must be above down_below ({self.down_below:g}), or the job would grow and shrink by turns"
            misfits.append(Misfit((("up_above",), ("down_below",)), message))
        if self.window > MAX_WINDOW_S:
            misfits.append(Misfit((("window",),), f"must be at most {format_duration(MAX_WINDOW_S)}"))
        if self.min is not None and self.max is not None and self.min > self.max:
            misfits.append(
                Misfit((("min",), ("max",)), f"{self.min} workers at least are more than {self.max} at most")
            )
        refuse(misfits)
        return self


class Checkpoint(Strict):
    """How much work an interruption can cost."""

    every: PositiveDuration = Field(60.0, description="Time between two checkpoints.")
    keep: Annotated[int, Field(ge=2)] = Field(
        3, description="How many to keep; at least 2, so that a damaged one has one before it."
    )
    keep_free: Size = Field(
        256 * 1024**2, description="Skip a checkpoint that would leave less free disk space than this."
    )


class Logs(Strict):
    """How much of what the workers print stays in the store."""

    keep: Annotated[int, Field(ge=1)] = Field(
        10, description="The logs of so many generations are kept, the newest; a generation is one life of the workers."
    )


class Limits(Strict):
    """When to stop."""

    max_cost: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Most US dollars to spend; without it no limit.", examples=[25]
    )
    max_hourly_cost: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Most US dollars an hour for the instances that train; a dearer rung is not chosen. While one "
        "generation follows another, those of both are paid for minutes.",
        examples=[4],
    )
    deadline: PositiveDuration | None = Field(
        None, description="Longest time from submit to end; without it no limit.", examples=["6h"]
    )
    stall: PositiveDuration = Field(
        900.0,
        description="Workers that report no new step for so long are started again; longer than any start, "
        "evaluation or checkpoint.",
    )
    max_failures: Annotated[int, Field(ge=0)] = Field(
        3, description="How many generations in a row may fail without progress before the job fails."
    )


class JobSpec(Strict):
    """A job: one training run and how it may be run."""

    name: JobName = Field(
        description="Unique in the store: lower-case letters, digits and hyphens.", examples=["digits"]
    )
    training: TrainingConfig | None = Field(
        None, description="What to train with elastic's own trainer. A job has this, or a command."
    )
    command: Command | None = Field(
        None,
        description="Instead of training: a program of your own, which each worker runs; a list of program and "
        "arguments, read by no shell. `{config}` and `{run_dir}` in it become the paths of its config.json and its run "
        "directory. What it finds and has to do: examples/bring-your-own.",
        examples=[["python", "train.py"]],
    )
    config: Config | None = Field(
        None, description="With a command: what your program finds in config.json.", examples=[{"epochs": 20}]
    )
    working_dir: str | None = Field(
        None,
        description="With a command: the directory that it runs in; without it that of the job file. In a "
        "container it is one of the image, from its root, without it the one that the image says.",
        examples=["src"],
    )
    resources: Resources = Field(default_factory=Resources)
    scaling: Scaling = Field(default_factory=Scaling)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    limits: Limits = Field(default_factory=Limits)
    logs: Logs = Field(default_factory=Logs)
    labels: dict[str, str] = Field(
        default_factory=dict,
        description="Key-value pairs of your own, to find the job by.",
        examples=[{"team": "vision"}],
    )

    @property
    def allowed_rungs(self) -> list[int]:
        """Indices of the ladder's rungs within scaling.min and scaling.max."""
        low = self.scaling.min or 1
        high = self.scaling.max or max(rung.world_size for rung in self.resources.ladder)
        return [i for i, rung in enumerate(self.resources.ladder) if low <= rung.world_size <= high]

    @property
    def trainer_config(self) -> dict[str, Any]:
        """What a run directory's config.json is made of."""
        return (self.config or {}) if self.training is None else self.training.model_dump(mode="json")

    @property
    def threads_per_worker(self) -> int:
        """CPU threads, and so cores, that each worker is to have."""
        return (self.resources.threads or 1) if self.training is None else self.training.threads

    def can_have(self, workers: int) -> bool:
        """Whether the work can be split over so many workers; a program of one's own is trusted with any number."""
        return self.training is None or self.training.shards % workers == 0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        misfits = [*self._program_misfits(), *self._shard_misfits(), *self._bound_misfits()]
        if self.resources.image is not None:
            misfits += shown_misfits(self.trainer_config, "config" if self.training is None else "training")
        refuse(misfits if self.training is None else [*misfits, *place_misfits(self.training)])
        return self

    def _program_misfits(self) -> list[Misfit]:
        if self.command is None:
            return self._trainer_misfits()
        misfits = [*command_misfits(self.command), *config_misfits(self.config or {})]
        if self.working_dir is not None:
            misfits += working_dir_misfits(self.working_dir, in_image=self.resources.image is not None)
        if self.training is not None:
            message = "is for elastic's own trainer; with command, write what your program needs under config"
            misfits.append(Misfit((("training",), ("command",)), message))
        if self.resources.fleet != "local" and self.resources.image is None:
            message = (
                "your program is not on the instances of this fleet: put it into a container image and name that as "
                "resources.image"
            )
            misfits.append(Misfit((("command",), ("resources", "fleet")), message))
        return misfits

    def _trainer_misfits(self) -> list[Misfit]:
        only_with_command = "is for a program of your own, and there is no command"
        misfits = []
        if self.training is None:
            message = "required field is missing; or give a command, to run a program of your own"
            misfits.append(Misfit((("training",), ("command",)), message))
        if self.config is not None:
            misfits.append(Misfit((("config",),), f"{only_with_command}; elastic's own trainer has training"))
        if self.working_dir is not None:
            misfits.append(Misfit((("working_dir",),), only_with_command))
        if self.resources.threads is not None:
            message = f"{only_with_command}; elastic's own trainer has training.threads"
            misfits.append(Misfit((("resources", "threads"),), message))
        return misfits

    def _shard_misfits(self) -> list[Misfit]:
        if self.training is None:
            return []
        shards = self.training.shards
        misfits = []
        for i, rung in enumerate(self.resources.ladder):
            if shards % rung.world_size:
                fits = [n for n in range(1, shards + 1) if shards % n == 0]
                below = [n for n in fits if n < rung.world_size][-1:]
                above = [n for n in fits if n > rung.world_size][:1]
                near = " or ".join(map(str, below + above))
                message = f"{shards} shards cannot be split over {rung.world_size} workers evenly; {near} can"
                rung_path = ("resources", "ladder", i)
                misfits.append(
                    Misfit(((*rung_path, "workers"), (*rung_path, "count"), ("training", "shards")), message)
                )
        return misfits

    def _bound_misfits(self) -> list[Misfit]:
        if self.allowed_rungs:
            return []
        bound = "min" if self.scaling.max is None else "max"
        low, high = self.scaling.min or 1, self.scaling.max
        wanted = f"{low} to {high}" if high else f"{low} or more"
        sizes = ", ".join(str(rung.world_size) for rung in self.resources.ladder)
        fields = (("scaling", bound), ("scaling", "min"), ("scaling", "max"), ("resources", "ladder"))
        return [Misfit(fields, f"no rung has {wanted} workers; the ladder has {sizes}")]
