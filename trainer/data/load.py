"""A data set by its name in the config."""

from collections import defaultdict
from dataclasses import replace

import torch

from trainer.config import TrainingConfig
from trainer.data.dataset import Dataset
from trainer.data.pools import labels_by_class
from trainer.errors import ConfigError, first_few

NAMED_AT_MOST = 10
"""How many classes a remark names."""


def load_dataset(config: TrainingConfig, device: torch.device) -> Dataset:
    """Raises ConfigError when its files cannot be read or do not go with the rest of the config."""
    dataset = _load(config, device)
    misfits = config.misfits_with(dataset.facts)
    if misfits:
        raise ConfigError("; ".join(misfit.message for misfit in misfits))
    return replace(dataset, remarks=(*dataset.remarks, *_about_labels(config, dataset)))


def _load(config: TrainingConfig, device: torch.device) -> Dataset:
    # Each is imported when it is wanted: the others' libraries would only make the start slower.
    if config.dataset == "digits":
        from trainer.data.digits import load_digits

        return load_digits(device)
    if config.dataset == "folder":
        from trainer.data.folder import load_folder

        return load_folder(config, device)
    from trainer.data.named import load_named

    return load_named(config, device)


def _about_labels(config: TrainingConfig, dataset: Dataset) -> list[str]:
    """What a person may not expect of `labels`: classes that get more than others, images that lose their label."""
    remarks, facts = [], dataset.facts
    plan = config.plan(facts)
    held_back = facts.train_images - plan.label_count
    if held_back and facts.extra_unlabelled and config.dataset == "folder":
        remarks.append(
            f"labels: {config.labels} leaves {held_back} of {facts.train_images} labelled images without their label, "
            "and they serve as unlabelled ones; 100% uses every label"
        )
    classes_by_count = defaultdict(list)
    for label, count in enumerate(labels_by_class(dataset.train_classes, plan, config.seed)):
        classes_by_count[count].append(dataset.class_names[label])
    if len(classes_by_count) > 1:
        shares = [
            f"{count} of {first_few(names, NAMED_AT_MOST)}"
            for count, names in sorted(classes_by_count.items(), reverse=True)
        ]
        remarks.append(f"labels: {plan.label_count} are not the same number for each class: {', '.join(shares)}")
    return remarks
