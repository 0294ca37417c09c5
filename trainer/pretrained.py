"""Weights to start from: torchvision's of ImageNet, or a file."""

import fcntl
import hashlib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TypeGuard

from torch import Tensor

from trainer.config import Model
from trainer.errors import ConfigError, Unavailable
from trainer.model import ResNet
from trainer.torch_file import NotTensors, read_tensors

IMAGENET_URLS = {
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
}
"""torchvision's IMAGENET1K_V1 weights; the name of each file ends with the start of its SHA-256."""

ANSWER_WITHIN_S = 30.0

MAY_DIFFER = {
    "conv1": "another stem",
    "fc": "another number of classes",
    "fc2": "another number of classes",
}
"""Layers whose shape follows from image size and classes, and what it means that theirs is another."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, torch.compile and a module around the network put before each name."""

WRAPPINGS = ("state_dict", "model_state_dict", "model")
"""Under what training programs keep a state dict beside their other values."""


@dataclass(frozen=True)
class Origin:
    """A file of weights that a model started from."""

    path: Path
    """Where it is on this machine; on another, it may be elsewhere."""
    sha256: str
    fresh: dict[str, str]
    """Layers that are not as in the file, each with the reason to tell."""

    @property
    def remark(self) -> str:
        """What to tell about it."""
        told = f"started from the weights in {self.path} (SHA-256 {self.sha256[:16]})"
        return "; ".join([told, *(f"{layer} {how}" for layer, how in self.fresh.items())])

    @property
    def content(self) -> str:
        """What has to be the same on all machines."""
        return ", ".join([f"SHA-256 {self.sha256}", *(f"{layer} {how}" for layer, how in self.fresh.items())])


def load_weights(setting: Model, model: ResNet, data_dir: str | None) -> Origin | None:
    """Set the model from `model.weights`; returns what it then started from, or None for `none`.

    A layer that cannot be as in the file, because stem or classes differ, stays as it is. Raises ConfigError.
    """
    if setting.weights == "none":
        return None
    is_imagenet = setting.weights == "imagenet"
    path = _imagenet_file(setting.name, data_dir) if is_imagenet else Path(setting.weights).expanduser()
    found, sha256 = _read(path)
    if is_imagenet and not sha256.startswith(_promised(path)):
        raise ConfigError(f"model.weights: {path} is damaged, its SHA-256 is {sha256[:16]}; remove it")
    ours = {name: tensor for name, tensor in model.state_dict().items() if not _is_count(name)}
    found = {name: tensor for name, tensor in found.items() if not _is_count(name)}
    fresh = _layers_that_stay(found, ours)
    _require_same_shapes(path, setting.name, fresh, found, ours)
    for name, tensor in ours.items():
        if _layer(name) not in fresh and not tensor.copy_(found[name]).isfinite().all():
            raise ConfigError(
                f"model.weights: {path} has NaN or infinity in {name}, and no training mends that; give another file"
            )
    return Origin(path, sha256, fresh)


def _layers_that_stay(found: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, str]:
    """Layers not to be taken from the file, each with the reason to tell."""
    reasons = {}
    for layer, reason in MAY_DIFFER.items():
        name = f"{layer}.weight"
        if layer == "fc2" and (name in found) != (name in ours):
            reasons[layer] = "starts fresh (the file has one head)" if name in ours else "is left out (one head here)"
        elif name in found and name in ours and found[name].shape != ours[name].shape:
            theirs, here = tuple(found[name].shape), tuple(ours[name].shape)
            if _only_as_expected(layer, theirs, here):
                reasons[layer] = f"starts fresh ({reason}: {theirs} there, {here} here)"
    return reasons


def _only_as_expected(layer: str, theirs: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Whether shapes differ only where stem or classes do: the window of a convolution, the outputs of a head."""
    if len(theirs) != len(here):
        return False
    return theirs[:2] == here[:2] if layer == "conv1" else theirs[1:] == here[1:]


def _require_same_shapes(
    path: Path, architecture: str, fresh: dict[str, str], found: dict[str, Tensor], ours: dict[str, Tensor]
) -> None:
    names = [name for name in [*ours, *(name for name in found if name not in ours)] if _layer(name) not in fresh]
    differing = [
        f"{name} is {_shape(found.get(name))} there and {_shape(ours.get(name))} here"
        for name in names
        if _shape(found.get(name)) != _shape(ours.get(name))
    ]
    if differing:
        more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
        raise ConfigError(
            f"model.weights: {path} is not of a {architecture}: {', '.join(differing[:3])}{more}; "
            "set model.name to what it is of, or give another file"
        )


def _layer(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _is_count(name: str) -> bool:
    """Whether it counts batches: older files lack it, and here it follows from the step."""
    return name.endswith(".num_batches_tracked")


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The state dict in a file, by the names that its model has alone, and the file's SHA-256."""
    advice = "give a state dict, as torch.save(model.state_dict(), PATH) writes it"
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            content = read_tensors(file)
    except FileNotFoundError:
        raise ConfigError(
            f"model.weights: there is no {path} on this machine; correct the path, or set it to imagenet or none"
        ) from None
    except OSError as error:
        raise ConfigError(f"model.weights: {path} cannot be read ({error.strerror})") from None
    except NotTensors as reason:
        raise ConfigError(f"model.weights: {path} {reason}; {advice}") from None
    state = _unwrapped(content)
    if state is None:
        raise ConfigError(f"model.weights: {path} holds something else than a state dict; {advice}")
    return _without_prefixes(state), sha256


def _unwrapped(content: object) -> dict[str, Tensor] | None:
    """A state dict that is there, or lies one level below by a usual name; None: there is none."""
    if _is_state_dict(content):
        return content
    within = [content[name] for name in WRAPPINGS if name in content] if isinstance(content, dict) else []
    return next((state for state in within if state and _is_state_dict(state)), None)


def _is_state_dict(content: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) and (tensor.is_floating_point() or _is_count(name))
        for name, tensor in content.items()
    )


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same by shorter names, if all begin with what stands around a model and is no part of it."""
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return _without_prefixes({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return state


def _imagenet_file(architecture: str, data_dir: str | None) -> Path:
    """The file of torchvision's weights, downloaded if it is not there; ranks of one machine do so once."""
    url = IMAGENET_URLS[architecture]
    name = url.rpartition("/")[2]
    directory = Path(data_dir).expanduser() if data_dir else _cache_directory()
    path = directory / name
    try:
        if not path.exists():  # also where it was put by hand, and nothing can be written
            directory.mkdir(parents=True, exist_ok=True)
            with _alone(directory / f".{name}.lock"):
                if not path.exists():
                    _download(url, path)
    except (OSError, HTTPException) as error:
        raise Unavailable(
            f"model.weights: imagenet needs {path}, which is not there and could not be downloaded from {url} "
            f"({error}); put that file there, or set model.weights: none"
        ) from None
    return path


def _cache_directory() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("elastic") / "weights"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Until it is left, no other process of this machine is within."""
    with open(lock, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(url: str, path: Path) -> None:
    """It appears by rename, and only if it is what its name says; raises OSError."""
    part, sha256 = path.with_name(f".{path.name}.part"), hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_WITHIN_S) as answer, open(part, "wb") as file:
            while piece := answer.read(1 << 20):
                sha256.update(piece)
                file.write(piece)
        if not sha256.hexdigest().startswith(_promised(path)):
            raise OSError(f"what came has the SHA-256 {sha256.hexdigest()[:16]}, not {_promised(path)}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _promised(path: Path) -> str:
    """How the SHA-256 of a file of torchvision's begins, by the end of its name."""
    return path.stem.rpartition("-")[2]
