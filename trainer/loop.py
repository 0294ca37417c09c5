"""A run from its first step to its last: build, train, close."""

from pathlib import Path

import torch

from trainer.checkpoint import Meta, load_checkpoint, made_with
from trainer.config import TrainingConfig
from trainer.data import load_dataset, split_pools
from trainer.evaluate import evaluate
from trainer.options import RunOptions
from trainer.precision import resolve
from trainer.progress import UtcNow
from trainer.recorder import Clock, Recorder
from trainer.sampling import Sampler
from trainer.state import TrainState, build_state
from trainer.step import TrainStep
from trainer.stop import StopRequest
from trainer.world import World

FINISHED, DRAINED = 0, 75
"""Exit codes of the run directory's contract."""


def train(
    config: TrainingConfig, options: RunOptions, world: World, stop: StopRequest, clock: Clock, now: UtcNow
) -> int:
    """Train from `resume/`, or from the start, to the end or to a stop; returns the exit code. Raises TrainerError."""
    torch.set_num_threads(config.threads)
    precision = resolve(config.precision, world.device)
    dataset = load_dataset(config.dataset).to(world.device)
    sampler = Sampler(config, split_pools(config, dataset.train.classes.cpu()))
    state = build_state(config, world.device)
    maker = made_with(world, precision)
    resumed = _resume(options.run_dir / "resume", config, state)
    world.require_agreement({"config": config, "step to start from": state.step, "device and libraries": maker})
    step = TrainStep(config, state, dataset, sampler, world, precision)
    # One rank writes; the others only compute.
    recorder = Recorder(config, options, state, step, world, maker, clock, now) if world.is_leader else None
    if recorder and resumed:
        recorder.resumed(resumed)

    stopping = False
    while state.step < config.total_steps and not stopping:
        stopping = step.run(stop.requested)
        if state.step % config.evaluate_every == 0 and state.step < config.total_steps:
            evaluation = evaluate(state, dataset, config, world)
            if recorder:
                recorder.evaluated(evaluation)
        if recorder:
            recorder.after_step()

    finished = state.step == config.total_steps
    evaluation_at_end = evaluate(state, dataset, config, world) if finished else None
    if recorder:
        recorder.close(evaluation_at_end)
    world.wait_for_all()  # whoever leaves first has the launcher end the others, also the one that still writes
    return FINISHED if finished else DRAINED


def _resume(directory: Path, config: TrainingConfig, state: TrainState) -> Meta | None:
    return load_checkpoint(directory, config, state) if directory.exists() else None
