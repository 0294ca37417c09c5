"""A run from its first step to its last: build, train, close."""

import torch

from trainer.activity import told
from trainer.allocator import keep_memory
from trainer.checkpoint import Resumed, load_checkpoint, made_with, what_matters
from trainer.config import Plan, TrainingConfig
from trainer.data.batches import open_batches
from trainer.data.load import load_dataset
from trainer.data.pools import split_pools
from trainer.divergence import Divergence
from trainer.evaluate import evaluate
from trainer.memory import advised, images_per_pass
from trainer.node_reports import NodeReports, Silent
from trainer.options import RunOptions
from trainer.precision import Precision, prefers_channels_last, resolve
from trainer.progress import UtcNow
from trainer.recorder import Recorder
from trainer.sampling import Sampler
from trainer.speed import Clock
from trainer.starting_point import starting_point
from trainer.state import TrainState, build_state
from trainer.step import TrainStep
from trainer.stop import StopRequest
from trainer.world import World

FINISHED, DRAINED = 0, 75
"""Exit codes of the run directory's contract."""


def train(
    config: TrainingConfig, options: RunOptions, world: World, stop: StopRequest, clock: Clock, now: UtcNow
) -> int:
    """Train from where the run stands to its end or to a stop; returns the exit code. Raises TrainerError."""
    _choose_kernels(config, world.device)
    shards = world.shards(config.shards)
    precision = resolve(config.precision, world.device)
    with told("getting the images ready", options.run_dir, world, now):
        dataset = load_dataset(config, world.device)
    plan = config.plan(dataset.facts)
    channels_last = prefers_channels_last(config.channels_last, world.device, precision)
    pools = split_pools(dataset.train_classes, plan, config.seed, extra_unlabelled=dataset.facts.extra_unlabelled)

    place = starting_point(options.run_dir)

    def start_anew() -> TrainState:
        return build_state(config, plan, world.device, channels_last=channels_last, to_restore=place is not None)

    state = start_anew()
    resumed = Resumed(place, load_checkpoint(place, config, dataset, state)) if place is not None else None
    batches = open_batches(config.loading, dataset, Sampler(config, pools), shards, state.step, world.device)
    with advised(config, plan, state, precision, world):
        is_compiled, compilation = _compile(config, plan, state, precision, world, clock)
        step = TrainStep(config, plan, state, dataset, batches, world, precision)
    maker = made_with(world, precision, channels_last=channels_last, compiled=is_compiled)
    world.require_agreement(
        {
            "config": what_matters(config.model_dump(mode="json")),
            "images": dataset.fingerprint,
            "where to start": state.counters,
            "the weights to start from": state.origin.content if state.origin else "none",
            "device and libraries": maker,
        }
    )
    divergence = Divergence(config, dataset, state, world, start_anew)
    recorder: Recorder | Silent = Silent()
    if world.is_leader:
        recorder = Recorder(config, plan, options, state, step, batches, dataset, pools, world, maker, clock, now)
    elif world.reports:
        recorder = NodeReports(config, plan, options, state, batches, world, clock, now)
    recorder.started(resumed, compilation)

    stopping = False
    while state.step < plan.total_steps and not stopping:
        with advised(config, plan, state, precision, world):
            outcome = step.run(stop.requested)
        if outcome is None:  # a GPU's first step: it is known after the next
            continue
        if not outcome.is_finite:
            remark = divergence.handle(outcome, recorder.last_good)
            step.forget()
            recorder.rolled_back(remark)
            continue
        stopping = outcome.stop
        if state.step % config.evaluate_every == 0 and state.step < plan.total_steps:
            with advised(config, plan, state, precision, world):
                evaluation = evaluate(state, dataset, config.shards, world)
            recorder.evaluated(evaluation)
        recorder.after_step()

    batches.close()
    finished = state.step == plan.total_steps
    evaluation_at_end = evaluate(state, dataset, config.shards, world) if finished else None
    recorder.close(evaluation_at_end)
    world.wait_for_all()  # whoever leaves first has the launcher end the others, also the one that still writes
    return FINISHED if finished else DRAINED


def _compile(
    config: TrainingConfig, plan: Plan, state: TrainState, precision: Precision, world: World, clock: Clock
) -> tuple[bool, str]:
    """Whether the networks are compiled, and what to tell about it."""
    if not config.compile:
        return False, ""
    from trainer.compilation import compile_networks  # torch's compiler takes seconds to import

    images = images_per_pass(config, world.size)
    return compile_networks(state, images, plan.image_px, precision, world, clock, exact=config.exact)


def _choose_kernels(config: TrainingConfig, device: torch.device) -> None:
    """Threads, memory, and convolutions that give the same bits each time; without `exact`, whichever is quickest."""
    if device.type == "cpu":
        keep_memory()
    torch.set_num_threads(config.threads)
    torch.backends.cudnn.deterministic = config.exact
    torch.backends.cudnn.benchmark = not config.exact
    torch.backends.cudnn.allow_tf32 = not config.exact  # fp32 is fp32 then, and not a format with 10 bits of it
