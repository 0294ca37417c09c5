"""The image of a job's ranks: there already, or pulled."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import DockerClient

_REFUSALS = {
    "pull access denied": "correct resources.image, or log in to its registry on the instance (docker login)",
    "manifest unknown": "correct resources.image: its registry has no such tag or digest",
    "no such manifest": "correct resources.image: its registry has no such tag or digest",
    "not found": "correct resources.image: its registry has nothing of that name",
    "unauthorized": "log in to its registry on the instance (docker login)",
    "denied": "correct resources.image, or log in to its registry on the instance (docker login)",
    "no matching manifest": "build it for this kind of machine",
    "invalid reference format": "correct resources.image: write it as NAME:TAG or NAME@sha256:DIGEST",
    "must be lowercase": "correct resources.image: write it as NAME:TAG, in lower case",
}
"""What an engine says where asking again is for nothing, and what to do then. 'no such host' is not among them."""


class ImageRefused(Exception):
    """The image cannot be had as it is named; trying again would not help."""


class ImageNotHad(Exception):
    """The image could not be had now: its registry does not answer, the disk is full."""


@dataclass
class PullProgress:
    """How far a pull is, by what the engine says of each layer."""

    image: str
    _layers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any]) -> str:
        """Take an event in; what is being done, in words."""
        layer, detail = str(event.get("id", "")), event.get("progressDetail") or {}
        current, total = detail.get("current"), detail.get("total")
        if event.get("status") == "Downloading" and isinstance(current, int) and isinstance(total, int) and total > 0:
            self._layers[layer] = (min(current, total), total)
        elif event.get("status") in ("Download complete", "Pull complete") and layer in self._layers:
            self._layers[layer] = (self._layers[layer][1], self._layers[layer][1])
        return str(self)

    def __str__(self) -> str:
        done, total = (sum(sizes) for sizes in zip(*self._layers.values(), strict=True)) if self._layers else (0, 0)
        if not total:
            return f"pulling {self.image}"
        return f"pulling {self.image}: {100 * done // total} % of {_size(total)}"


@dataclass(frozen=True)
class Image:
    """An image that is here."""

    id: str
    digest: str
    """As its registry knows it; of one that was built here, its id."""


def find_image(client: "DockerClient", name: str) -> Image | None:
    """The image of that name on this machine. Raises what the SDK raises when the engine is away."""
    from docker.errors import APIError, ImageNotFound

    try:
        found: Mapping[str, Any] = client.images.get(name).attrs
    except ImageNotFound:
        return None
    except APIError as error:
        raise why_not(name, error.explanation or str(error)) from error
    return Image(found["Id"], next(iter(found.get("RepoDigests") or ()), found["Id"]))


def pull_image(client: "DockerClient", name: str, doing: Callable[[str], None], ending: Callable[[], bool]) -> None:
    """Have the engine pull it. Raises ImageRefused, ImageNotHad, and what the SDK raises when the engine is away."""
    from docker.errors import APIError

    progress = PullProgress(name)
    doing(str(progress))
    try:
        events: Iterable[Mapping[str, Any]] = client.api.pull(name, stream=True, decode=True)
        for event in events:
            if "error" in event:
                raise why_not(name, str(event["error"]))
            doing(progress.take(event))
            if ending():
                return
    except APIError as error:
        raise why_not(name, error.explanation or str(error)) from error


def why_not(name: str, said: str) -> ImageRefused | ImageNotHad:
    """What the engine says against it, and whether it may pass."""
    said = " ".join(said.split())
    # A name that no resolver knows is a registry's that cannot be reached.
    advice = next((advice for words, advice in _REFUSALS.items() if words in said and "lookup " not in said), None)
    if advice is not None:
        return ImageRefused(f"the image {name} cannot be had: {said}; {advice}")
    return ImageNotHad(f"the image {name} could not be pulled: {said}")


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
