"""A data set by its name in the config."""

from collections.abc import Callable

import torch

from trainer.config import TrainingConfig
from trainer.data.dataset import Dataset
from trainer.data.digits import load_digits
from trainer.errors import ConfigError


def load_dataset(config: TrainingConfig, device: torch.device) -> Dataset:
    """Raises ConfigError when its files cannot be read or do not go with the rest of the config."""
    loader = _LOADERS.get(config.dataset)
    if loader is None:
        raise ConfigError(f"dataset {config.dataset}: cannot be loaded yet")
    dataset = loader(config, device)
    misfits = config.misfits_with(dataset.facts)
    if misfits:
        raise ConfigError("; ".join(misfit.message for misfit in misfits))
    return dataset


_LOADERS: dict[str, Callable[[TrainingConfig, torch.device], Dataset]] = {
    "digits": lambda _, device: load_digits(device),
}
