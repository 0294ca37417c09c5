"""What to train: the `training` section of job.yaml, and `config.json` of a run directory.

    training   TrainingConfig, the whole             sections   the parts: network, optimiser, augmentation, ...
    facts      sizes of the named data sets          plan       what follows from both: steps, labels
    base       strict models; values that do not fit together
    explain    what pydantic found wrong, in sentences

Pure and light: pydantic only, no torch, because the orchestrator imports it to check a job before anything starts. It
imports this package, never the modules within.
"""

from trainer.config.base import FieldPath, Misfit, Strict, refuse
from trainer.config.explain import Mistake, Written, dotted, explain, mistakes, models_in
from trainer.config.facts import DATASETS, DatasetFacts
from trainer.config.plan import Plan
from trainer.config.sections import (
    LARGEST_SMALL_IMAGE_PX,
    Augmentation,
    Consistency,
    Ema,
    Folders,
    Loading,
    Model,
    Optimizer,
    Schedule,
)
from trainer.config.training import TrainingConfig

__all__ = [
    "DATASETS",
    "LARGEST_SMALL_IMAGE_PX",
    "Augmentation",
    "Consistency",
    "DatasetFacts",
    "Ema",
    "FieldPath",
    "Folders",
    "Loading",
    "Misfit",
    "Mistake",
    "Model",
    "Optimizer",
    "Plan",
    "Schedule",
    "Strict",
    "TrainingConfig",
    "Written",
    "dotted",
    "explain",
    "mistakes",
    "models_in",
    "refuse",
]
