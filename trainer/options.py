"""How this process runs, as opposed to what it trains: nothing here changes a bit of the result."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import ConfigError


@dataclass(frozen=True)
class RunOptions:
    """One run of the trainer on one machine."""

    config_path: Path
    run_dir: Path
    checkpoint_every_s: float = 60.0
    keep_free_bytes: int = 0
    keep_local: int = 2
    tensorboard: bool = True
    die_with_parent: bool = False


def parse_options(arguments: Sequence[str], environ: Mapping[str, str]) -> RunOptions:
    """Options from the command line, each with its environment variable as default; raises ConfigError."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Train a Mean Teacher, alone or under torchrun.",
        epilog="Exit codes: 0 finished, 75 stopped by SIGTERM with a checkpoint to resume from, 2 bad input, "
        "4 the loss is no number any more, 1 failed otherwise.",
    )
    parser.add_argument("config", type=Path, help="config.json, or the training section as .yaml or .json")
    parser.add_argument(
        "run_dir",
        type=Path,
        help="where checkpoints/ and progress.jsonl are written; goes on from the last of these checkpoints, "
        "or from the one in resume/ if that is later",
    )
    parser.add_argument(
        "--checkpoint-every-s",
        metavar="S",
        help="seconds between checkpoints, longer while they take long to write [ELASTIC_CHECKPOINT_EVERY_S, 60]",
    )
    parser.add_argument(
        "--keep-free-bytes",
        metavar="N",
        help="skip a checkpoint that would leave less on the disk [ELASTIC_KEEP_FREE_BYTES, 0]",
    )
    parser.add_argument("--keep-local", metavar="N", help="how many checkpoints to keep [ELASTIC_KEEP_LOCAL, 2]")
    parser.add_argument(
        "--no-tensorboard",
        action="store_true",
        help="write no curves to RUN_DIR/tensorboard [ELASTIC_TENSORBOARD=0, else 1]",
    )
    given = parser.parse_args(arguments)
    curves = environ.get("ELASTIC_TENSORBOARD", "1")
    if curves not in ("0", "1"):
        raise ConfigError(f"ELASTIC_TENSORBOARD: '{curves}' is neither 0 nor 1")

    def number(option: str, variable: str, default: str, least: float) -> float:
        text = getattr(given, option)
        name = f"--{option.replace('_', '-')}" if text is not None else variable
        text = text if text is not None else environ.get(variable, default)
        try:
            value = float(text)
        except ValueError:
            raise ConfigError(f"{name}: '{text}' is not a number") from None
        if not least <= value < float("inf"):
            raise ConfigError(f"{name}: {text} is out of range, give {least:g} or more")
        return value

    return RunOptions(
        config_path=given.config,
        run_dir=given.run_dir,
        checkpoint_every_s=number("checkpoint_every_s", "ELASTIC_CHECKPOINT_EVERY_S", "60", 0),
        keep_free_bytes=int(number("keep_free_bytes", "ELASTIC_KEEP_FREE_BYTES", "0", 0)),
        keep_local=int(number("keep_local", "ELASTIC_KEEP_LOCAL", "2", 1)),
        tensorboard=curves == "1" and not given.no_tensorboard,
        die_with_parent=environ.get("ELASTIC_DIE_WITH_PARENT") == "1",
    )
