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
class Layer:
    """How far a layer is."""

    size_bytes: int = 0
    """As it is downloaded; 0 while the engine has not said."""
    here_bytes: int = 0
    unpacked_bytes: int = 0
    """Of the same bytes, those that have been unpacked."""
    unpacking_s: int = 0
    """For how long it has been unpacked, where the engine says no more: one that keeps images in containerd."""


@dataclass
class PullProgress:
    """How far a pull is, by what the engine says of each layer."""

    image: str
    _layers: dict[str, Layer] = field(default_factory=dict)
    _unpacks: bool = False

    def take(self, event: Mapping[str, Any]) -> str:
        """Take an event in; what is being done, in words."""
        name, detail = str(event.get("id", "")), event.get("progressDetail") or {}
        current, total = _count(detail.get("current")), _count(detail.get("total"))
        match event.get("status"):
            case "Downloading" if total:
                layer = self._layer(name)
                layer.size_bytes, layer.here_bytes = total, min(current, total)
            case "Extracting" if total:
                self._unpacks = True
                layer = self._layer(name)
                layer.size_bytes = layer.here_bytes = layer.size_bytes or total
                layer.unpacked_bytes = layer.size_bytes * min(current, total) // total
            case "Extracting":
                self._layer(name).unpacking_s = current
            case "Download complete" if name in self._layers:
                self._layers[name].here_bytes = self._layers[name].size_bytes
            case "Pull complete" if name in self._layers:
                layer = self._layers[name]
                layer.here_bytes = layer.unpacked_bytes = layer.size_bytes
        return str(self)

    @property
    def mark(self) -> tuple[int, ...]:
        """Another one whenever anything has come further, however little."""
        return self._sum("here_bytes"), self._sum("unpacked_bytes"), self._sum("unpacking_s")

    def __str__(self) -> str:
        total, unpacking_s = self._sum("size_bytes"), self._sum("unpacking_s")
        told = f"pulling {self.image}"
        if total:
            told += f": {100 * self._sum('here_bytes') // total} % of {_size(total)}"
        if total and self._unpacks:
            told += f", unpacking: {100 * self._sum('unpacked_bytes') // total} %"
        if unpacking_s:
            told += f", unpacking for {unpacking_s} s"
        return told

    def _layer(self, name: str) -> Layer:
        return self._layers.setdefault(name, Layer())

    def _sum(self, what: str) -> int:
        return sum(getattr(layer, what) for layer in self._layers.values())


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


def pull_image(
    client: "DockerClient", name: str, doing: Callable[[str, object], None], ending: Callable[[], bool]
) -> None:
    """Have the engine pull it. Raises ImageRefused, ImageNotHad, and what the SDK raises when the engine is away.

    `doing` is told in words how far it is, and beside them a mark, which is another one after any movement.
    """
    from docker.errors import APIError

    progress = PullProgress(name)
    doing(str(progress), progress.mark)
    try:
        events: Iterable[Mapping[str, Any]] = client.api.pull(name, stream=True, decode=True)
        for event in events:
            if "error" in event:
                raise why_not(name, str(event["error"]))
            doing(progress.take(event), progress.mark)
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


def _count(told: object) -> int:
    """A number that an engine may leave out."""
    return max(0, told) if isinstance(told, int) else 0


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
