"""Where a job's images and weights lie: directories of a machine, or prefixes of a bucket. Pure."""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.config import Misfit, TrainingConfig

FOLDERS = ("labelled", "unlabelled", "test")
"""The fields of `training.folders` that name places."""

_NAMED_WEIGHTS = ("none", "imagenet")
RUN_DIRECTORY_IN_CONTAINER = "/elastic-run"
_OF_EVERY_CONTAINER = ("/", "/dev", "/proc", "/sys", "/tmp", RUN_DIRECTORY_IN_CONTAINER)
"""What a container has of its own at these places, so that nothing of the machine can be shown there."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[sS]3:")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NO_CREDENTIALS = (
    "must carry no credentials, for whoever can read the bucket can read them here; "
    "write s3://BUCKET/PREFIX, without any '@' or '?', and give the instances the right to read it"
)


class SecretMisfit(Misfit):
    """A misfit whose value must not be printed."""


def is_url(place: str) -> bool:
    """Whether a place is anywhere but in a directory."""
    return _URL.match(place) is not None


def split_s3(url: str) -> tuple[str, str]:
    """Bucket and prefix of s3://BUCKET/PREFIX; the prefix without slashes around it, empty for a whole bucket."""
    bucket, _, prefix = url.partition(":")[2].removeprefix("//").partition("/")
    return bucket, prefix.strip("/")


def place_misfits(training: TrainingConfig) -> Iterator[Misfit]:
    """What cannot be read where it is said to lie, by paths from the whole job."""
    for path, place in _places(training):
        if not is_url(place):
            if why := _no_path(place):
                yield Misfit((path,), why)
            continue
        scheme = place.partition(":")[0]
        bucket, _ = split_s3(place)
        if "@" in place or "?" in place or ":" in bucket:
            yield SecretMisfit((path,), _NO_CREDENTIALS)
        elif "folders" not in path:
            yield Misfit((path,), f"must be a path on the instances, not {scheme}://; only folders may be s3://")
        elif scheme.lower() != "s3":
            yield Misfit((path,), f"must be a directory or s3://BUCKET/PREFIX, not {scheme}://")
        elif "://" not in place:
            yield Misfit((path,), "must be a directory or s3://BUCKET/PREFIX, with two slashes before the bucket")
        elif _BUCKET.fullmatch(bucket) is None:
            yield Misfit((path,), "names no bucket: write s3://BUCKET/PREFIX, with the bucket's name as S3 allows it")


def places_in(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What a config names for data, with its path in it: data_dir, model.weights, and all under folders.

    It may be the trainer's, or that of a program of one's own, which need have none of these fields.
    """
    model, folders = config.get("model"), config.get("folders")
    named: dict[tuple[str, ...], Any] = {("data_dir",): config.get("data_dir")}
    if isinstance(model, Mapping) and model.get("weights") not in _NAMED_WEIGHTS:
        named["model", "weights"] = model.get("weights")
    if isinstance(folders, Mapping):
        named |= {("folders", name): place for name, place in folders.items()}
    for path, place in named.items():
        if isinstance(place, str) and place:
            yield path, place


def shown_misfits(config: Mapping[str, Any], section: str) -> Iterator[Misfit]:
    """What cannot be shown to a container under its own path; `section`: the field of the job that `config` is."""
    for path, place in places_in(config):
        where = "/" + posixpath.normpath(place).lstrip("/")  # which leaves two slashes as they are
        if place.startswith("/") and where in _OF_EVERY_CONTAINER:
            message = f"cannot be shown to a container, which has a {where} of its own; name a directory within"
            yield Misfit(((section, *path),), message)


def _no_path(place: str) -> str | None:
    """What is wrong with a path before anybody looks whether it is there."""
    if "\0" in place:
        return "must be a path, and none has a zero character"
    return unknown_home(place)


def unknown_home(place: str) -> str | None:
    """What is wrong with a path that begins in the home directory of somebody who is not known here."""
    try:
        Path(place).expanduser()
    except RuntimeError:
        return f"names the home directory of {place.partition('/')[0]}, whom this machine does not know"
    return None


def with_absolute_paths(training: TrainingConfig, base: Path) -> TrainingConfig:
    """The same with every local path taken from `base`: whoever reads it later works in another directory."""

    def absolute(place: str | None) -> str | None:
        return place if place is None or is_url(place) else os.path.realpath(base / Path(place).expanduser())

    changes: dict[str, Any] = {"data_dir": absolute(training.data_dir)}
    if training.folders is not None:
        places = {name: absolute(getattr(training.folders, name)) for name in FOLDERS}
        changes["folders"] = training.folders.model_copy(update=places)
    if training.model.weights not in _NAMED_WEIGHTS:
        changes["model"] = training.model.model_copy(update={"weights": absolute(training.model.weights)})
    return training.model_copy(update=changes)


def _places(training: TrainingConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    if training.data_dir is not None:
        yield ("training", "data_dir"), training.data_dir
    yield ("training", "model", "weights"), training.model.weights
    for name in FOLDERS if training.folders is not None else ():
        place = getattr(training.folders, name)
        if place is not None:
            yield ("training", "folders", name), place
